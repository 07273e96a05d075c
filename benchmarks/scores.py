"""How much better metrics are than others, as validation and reports compare them."""

from collections.abc import Sequence

import numpy as np

import dbmtl_jax as dbmtl


def delta_p_per_task(
    values: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    higher_is_better: Sequence[Sequence[bool]],
) -> np.ndarray:
    """The relative improvement of every task in percent, [T]; its mean is Δp.

    A baseline of zero, such as an accuracy of nothing right, has no relative change: there the
    difference counts instead, times 100.

    Args:
      values, baseline: the metrics of every task.
      higher_is_better: a bool for each metric, alike.
    """
    deltas = []
    for task, own, higher in zip(values, baseline, higher_is_better, strict=True):
        shift = np.equal(own, 0)  # (v + 1 - 1) / 1 where the baseline is 0
        deltas.append(
            dbmtl.delta_p([list(np.add(task, shift))], [list(np.add(own, shift))], [higher])
        )
    return np.array(deltas, float)
