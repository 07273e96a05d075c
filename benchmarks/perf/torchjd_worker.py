"""Aggregators of TorchJD, run on request by `aggregation.py`.

It runs in an interpreter that has torch and torchjd; this project need not be installed there. The
arguments are the numbers of tasks, parameters and threads. It first prints the version of torch,
then reads names of aggregators from standard input, one per line, calls each once, and answers
"done" or why it is missing.
"""

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Answers requests until standard input ends."""
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
        "UPGrad": lambda: aggregation.UPGrad(),
        "DualProj": lambda: aggregation.DualProj(),
        "ConFIG": lambda: aggregation.ConFIG(),
        "FairGrad": lambda: aggregation.FairGrad(alpha=1.0),
    }

    @functools.cache
    def aggregator(name: str) -> Any:
        return make[name]()

    print(f"torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        try:
            # Older versions lack some aggregators, and some aggregators need other packages.
            call = aggregator(line.strip())
        except (AttributeError, ImportError) as error:
            print(f"missing: {error}", flush=True)
            continue
        with torch.no_grad():
            call(jacobian)
        print("done", flush=True)


if __name__ == "__main__":
    main()
