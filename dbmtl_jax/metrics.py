"""Δ_p, the usual summary metric of multi-task learning."""

from collections.abc import Sequence
from typing import Any

Values = Sequence[Sequence[Any]]


def delta_p(values: Values, baseline: Values, higher_is_better: Sequence[Sequence[bool]]) -> Any:
    r"""Mean relative improvement over single-task learning, in percent.

    .. math::
        \Delta_p = \frac1T \sum_{t=1}^{T} \frac{100}{N_t} \sum_{i=1}^{N_t} (-1)^{s_{t,i}}
        \frac{M_{t,i} - M^{\text{STL}}_{t,i}}{M^{\text{STL}}_{t,i}}

    with s = 0 where higher is better and s = 1 where lower is better (the paper's Eq. 3).  Each
    task has the same weight, however many metrics it has.

    Args:
      values: the method's metrics, a sequence over tasks of sequences over the task's metrics.
      baseline: the metrics of single-task learning, nested in the same way.
      higher_is_better: a bool for each metric, nested in the same way.

    Returns:
      Δ_p in percent: a float for floats, a scalar array for arrays (also inside `jax.jit`).

    Raises:
      ValueError: if the three do not match, a task has no metric or a baseline is zero.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> values = [[0.75, 0.80], [0.9]]  # task 1: two scores; task 2: an error
      >>> dbmtl.delta_p(values, [[0.50, 0.80], [0.9]], [[True, True], [False]])
      12.5
    """
    lengths = [
        _lengths(name, x)
        for name, x in (
            ("values", values),
            ("baseline", baseline),
            ("higher_is_better", higher_is_better),
        )
    ]
    if not lengths[0] == lengths[1] == lengths[2] or not lengths[0] or 0 in lengths[0]:
        raise ValueError(
            "values, baseline and higher_is_better: expected the same number of metrics for each "
            f"of at least one task, found {lengths[0]}, {lengths[1]} and {lengths[2]}"
        )
    total = 0.0
    for task, metrics in enumerate(values):
        improvements = 0.0
        for index, value in enumerate(metrics):
            reference = baseline[task][index]
            if isinstance(reference, int | float) and reference == 0:
                raise ValueError(
                    f"baseline[{task}][{index}]: expected a nonzero metric, found {reference}"
                )
            sign = 1.0 if higher_is_better[task][index] else -1.0
            improvements += sign * (value - reference) / reference
        total += 100.0 * improvements / len(metrics)
    return total / len(values)


def _lengths(name: str, table: Any) -> list[int]:
    try:
        return [len(row) for row in table]
    except TypeError:
        raise ValueError(
            f"{name}: expected a sequence over tasks of sequences over metrics, found {table!r}"
        ) from None
