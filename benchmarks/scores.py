"""Δp, the relative improvement over a baseline, as validation and reports use it."""

from collections.abc import Sequence

import numpy as np

import dbmtl_jax as dbmtl


def delta_p_per_task(
    values: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    higher_is_better: Sequence[Sequence[bool]],
) -> np.ndarray:
    """The relative improvement of every task in percent, [T]; its mean is Δp.

    If a metric of the baseline is zero, its absolute difference times 100 is used instead.

    Args:
      values, baseline: the metrics of every task.
      higher_is_better: for every metric of every task, whether higher is better.
    """
    deltas = []
    for task, own, higher in zip(values, baseline, higher_is_better, strict=True):
        shift = np.equal(own, 0)  # (v + 1 - 1) / 1 where the baseline is 0
        deltas.append(
            dbmtl.delta_p([list(np.add(task, shift))], [list(np.add(own, shift))], [higher])
        )
    return np.array(deltas, float)
