"""TorchJD's aggregators, timed on request: the other end of `aggregation.py`.

Runs in an interpreter that has torch and torchjd and need not have this project.  Started with
the number of tasks, of parameters and of threads; reads names of aggregators from standard input,
a line each, and answers each with the seconds of one call.
"""

import sys
import time
import warnings


def main() -> None:
    """Serves until standard input ends."""
    import torch
    from torchjd import aggregation

    num_tasks, num_parameters, num_threads = map(int, sys.argv[1:])
    warnings.simplefilter("ignore")
    torch.set_num_threads(num_threads)
    jacobian = torch.randn(num_tasks, num_parameters, generator=torch.Generator().manual_seed(0))
    aggregators = {
        "MGDA": aggregation.MGDA(),
        "PCGrad": aggregation.PCGrad(),
        "GradVac": aggregation.GradVac() if hasattr(aggregation, "GradVac") else None,
        "IMTL-G": aggregation.IMTLG(),
        "CAGrad": aggregation.CAGrad(c=0.5),
        "Nash-MTL": aggregation.NashMTL(n_tasks=num_tasks),
        "Aligned-MTL": aggregation.AlignedMTL(),
    }
    print(f"torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        aggregator = aggregators[line.strip()]
        if aggregator is None:
            print("nan", flush=True)
            continue
        begin = time.perf_counter()
        with torch.no_grad():
            aggregator(jacobian)
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
