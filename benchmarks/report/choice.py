"""Which runs are a method's row: DB-MTL's forgetting rate is chosen by validation."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from benchmarks import methods
from benchmarks.catalogue import BETA_GRID
from benchmarks.report.results import Outcome

DB_MTL = "db_mtl"


def db_mtl(outcomes: Sequence[Outcome]) -> tuple[Outcome | None, list[str]]:
    """DB-MTL with the forgetting rate of the best mean validation Δp, and notes that name it.

    The paper searches six rates; more of them, as Figure 5 has, are left out, which would favour
    DB-MTL over methods with nothing to choose. The test figures have no say here. Without a
    validation it is the rate that the name alone stands for. None where there is no run.
    """
    rates = [o for o in outcomes if is_rate(o.method)]
    searched = {rate(method) for method in (DB_MTL, *BETA_GRID)}
    candidates = [o for o in rates if rate(o.method) in searched] or rates
    # The name alone first: it is taken where nothing else decides.
    candidates.sort(key=lambda o: (not len(o.test), o.method != DB_MTL))
    finished = [o for o in candidates if len(o.test)]
    if not candidates:
        return None, []
    notes = [
        f"DB-MTL with {rate_title(o.method)} failed: {f}." for o in candidates[1:] for f in o.failed
    ]
    scores = [_mean(o.validation_delta_p) for o in finished]
    best = int(np.nanargmax(scores)) if np.isfinite(scores).any() else 0
    chosen = candidates[best]
    if len(finished) > 1 and np.isfinite(scores).any():
        why = f"of {len(finished)} forgetting rates the best mean validation Δp"
        notes = [f"DB-MTL has {rate_title(chosen.method)}, {why} ({scores[best]:.2f} %).", *notes]
    elif len(finished) > 1 or chosen.method != DB_MTL:
        why = ": nothing was held out to choose by" if len(finished) > 1 else ""
        notes = [f"DB-MTL has {rate_title(chosen.method)}{why}.", *notes]
    return dataclasses.replace(chosen, method=DB_MTL), notes


def headline(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[str]]:
    """One outcome for every method as the paper's tables have rows, and notes; no chains."""
    chosen, notes = db_mtl(outcomes)
    rows = [
        o
        for o in outcomes
        if not (spec := methods.parse(o.method)).balancers and spec.method != DB_MTL
    ]
    return [*rows, *([chosen] if chosen else [])], notes


def is_rate(method: str) -> bool:
    """Whether it is DB-MTL with nothing changed but the forgetting rate."""
    balancers, name, options = methods.parse(method)
    return name == DB_MTL and not balancers and options.keys() <= {"beta", "sigma"}


def rate(method: str) -> tuple[float, float]:
    """β and σ of the forgetting rate β / k^σ of such a method."""
    options = methods.parse(method).options
    found = options if "beta" in options else methods.DB_MTL_DEFAULTS | options
    return found["beta"], found.get("sigma", 0)


def rate_title(method: str) -> str:
    """As in `β = 0.9/√k`."""
    beta, sigma = rate(method)
    shown = methods.display_name(f"{DB_MTL}@beta={beta},sigma={sigma}")
    return shown.partition("(")[2].rstrip(")")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
