"""How far the order of the methods agrees with the paper's."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from benchmarks.methods import BASELINE
from benchmarks.report.records.results import Outcome

_FEWEST = 5
"""With fewer methods than this, nothing can be said of their order."""


class Agreement(NamedTuple):
    """Spearman's rank correlation ρ with its 95 % interval."""

    rho: float
    low: float
    high: float
    number: int  # of methods


def spearman(ours: Sequence[float], theirs: Sequence[float]) -> Agreement:
    """Spearman's ρ, and tanh(atanh ρ ± 1.96 √((1 + ρ²/2) / (n - 3))).

    Source of the interval: Bonett and Wright, Psychometrika 65 (2000), 23–28.
    """
    rho, number = float(scipy.stats.spearmanr(ours, theirs).statistic), len(ours)
    middle = math.atanh(max(min(rho, 1 - 1e-12), -1 + 1e-12))
    error = 1.959964 * math.sqrt((1 + rho**2 / 2) / (number - 3))
    return Agreement(rho, math.tanh(middle - error), math.tanh(middle + error), number)


def note(outcomes: Sequence[Outcome], printed: Mapping[str, str]) -> list[str]:
    """A line on the order of Δp against that of the paper; none for too few methods.

    The baseline, which has the same Δp in both, is no method that could change its place.

    Args:
      outcomes: results of methods in their usual form.
      printed: the Δp of the paper as printed, by the name of the method.
    """
    both = [
        (float(outcome.delta_p.mean()), _number(printed.get(outcome.name, "–")))
        for outcome in outcomes
        if outcome.method != BASELINE
        and len(outcome.delta_p)
        and np.isfinite(outcome.delta_p).all()
    ]
    both = [(ours, theirs) for ours, theirs in both if not math.isnan(theirs)]
    if len(both) < _FEWEST or min(np.ptp(both, axis=0)) == 0:  # all alike have no order
        return []
    rho, low, high, number = spearman(*zip(*both, strict=True))
    return [
        f"Order of the methods by Δp against the paper's: Spearman's ρ = {rho:.2f}, 95 % interval "
        f"{low:.2f} to {high:.2f}, {number} methods."
    ]


def _number(text: str) -> float:
    """The number before ±; NaN if there is none."""
    try:
        return float(text.partition(" ")[0])
    except ValueError:
        return math.nan
