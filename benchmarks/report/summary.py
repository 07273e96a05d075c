"""What a comparison comes to, in a few sentences for the terminal."""

import math

import numpy as np

from benchmarks.methods import BASELINE
from benchmarks.report.records.results import Outcome
from benchmarks.report.records.study import Study

_EW = "ew"


def lines(study: Study) -> list[str]:
    """What is best, by how much, how sure that is, and what it costs; empty without a Δp."""
    compared = [
        o
        for o in study.outcomes
        if o.method != BASELINE and len(o.delta_p) and np.isfinite(o.delta_p).all()
    ]
    if not compared:
        return []
    best = max(compared, key=_mean)
    side = "better" if _mean(best) > 0 else "worse"
    said = [
        f"Best is {best.name}: on average over the tasks, its test metrics are "
        f"{abs(_mean(best)):.1f} % {side} than those of single-task networks (Δp)."
    ]
    others = [o for o in compared if o.method != best.method]
    other = next((o for o in others if o.method == _EW), max(others, key=_mean, default=None))
    if other is None:
        return said
    said.append(_difference(best, other))
    slow, quick = sorted((best, other), key=lambda o: o.steps_per_second)
    cost = quick.steps_per_second / slow.steps_per_second
    if math.isfinite(cost):
        said.append(
            f"A training step of {slow.name} takes {cost:.1f} times as long as one of {quick.name}."
        )
    return said


def _mean(outcome: Outcome) -> float:
    return float(outcome.delta_p.mean())


def _difference(best: Outcome, other: Outcome) -> str:
    """How far another method is behind, and whether that can be chance."""
    points = f"{other.name} is {_mean(best) - _mean(other):.1f} points behind"
    if min(len(best.delta_p), len(other.delta_p)) < 2:
        return f"{points}; with one seed each that can be chance: more --seeds tell."
    error = math.sqrt(sum(o.delta_p.var(ddof=1) / len(o.delta_p) for o in (best, other)))
    sure = "more" if _mean(best) - _mean(other) > 2 * error else "no more"
    return f"{points}, ± {error:.1f} (standard error): {sure} than chance would explain."
