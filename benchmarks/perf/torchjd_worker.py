"""TorchJD's aggregators, run on request: the other end of `aggregation.py`.

Runs in an interpreter that has torch and torchjd and need not have this project.  Started with
the number of tasks, of parameters and of threads; reads names of aggregators from standard input,
a line each, and answers after one call of each, or why there is none.
"""

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Serves until standard input ends."""
    import torch
    from torchjd import aggregation

    num_tasks, num_parameters, num_threads = map(int, sys.argv[1:])
    warnings.simplefilter("ignore")
    torch.set_num_threads(num_threads)
    jacobian = torch.randn(num_tasks, num_parameters, generator=torch.Generator().manual_seed(0))
    make: dict[str, Callable[[], Any]] = {
        "MGDA": lambda: aggregation.MGDA(),
        "PCGrad": lambda: aggregation.PCGrad(),
        "GradVac": lambda: aggregation.GradVac(),
        "IMTL-G": lambda: aggregation.IMTLG(),
        "CAGrad": lambda: aggregation.CAGrad(c=0.5),
        "Nash-MTL": lambda: aggregation.NashMTL(n_tasks=num_tasks),
        "Aligned-MTL": lambda: aggregation.AlignedMTL(),
    }

    @functools.cache
    def aggregator(name: str) -> Any:
        return make[name]()

    print(f"torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        try:
            # Older versions lack some; some need packages of their own.
            call = aggregator(line.strip())
        except (AttributeError, ImportError) as error:
            print(f"missing: {error}", flush=True)
            continue
        with torch.no_grad():
            call(jacobian)
        print("done", flush=True)


if __name__ == "__main__":
    main()
