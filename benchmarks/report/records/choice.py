"""The choice of DB-MTL's forgetting rate by validation, for tables with a row per method."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from benchmarks import methods
from benchmarks.report.records.results import Outcome

DB_MTL = "db_mtl"

BETA_GRID = (
    "db_mtl@beta=0.1",
    "db_mtl@beta=0.5",
    "db_mtl@beta=0.9",
    "db_mtl@beta=0.1,sigma=0.5",
    "db_mtl@beta=0.5,sigma=0.5",
)
"""The forgetting rates that the paper searches (Section 4.1) besides that of `db_mtl`, 0.9/√k."""


def db_mtl(outcomes: Sequence[Outcome]) -> tuple[Outcome | None, list[str]]:
    """DB-MTL with the forgetting rate of the best mean validation Δp, and notes on the choice.

    Only the six rates of the paper are considered, if there are any: a larger choice, as in
    Figure 5, would favour DB-MTL over methods without such a choice. Test results do not affect
    the choice. Without a validation set, the rate of the plain `db_mtl` is taken. The outcome is
    None if there are no runs of DB-MTL.
    """
    rates = [o for o in outcomes if is_rate(o.method)]
    searched = {rate(method) for method in (DB_MTL, *BETA_GRID)}
    candidates = [o for o in rates if rate(o.method) in searched] or rates
    # The plain `db_mtl` comes first: it is taken if validation cannot decide.
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
    """One outcome for each method, as in the tables of the paper (without chains), and notes.

    Methods that were trained in the form of LibMTL stand for themselves.
    """
    chosen, notes = db_mtl(outcomes)
    trained = {outcome.method for outcome in outcomes}
    rows = []
    for outcome in outcomes:
        name = methods.row_name(outcome.method)
        spec = methods.parse(name)
        if spec.balancers or spec.method == DB_MTL or not spec.is_usual:
            continue
        if name != outcome.method:
            rows.append(dataclasses.replace(outcome, method=name))
            notes.append(f"{methods.display_name(name)} {_FORMS[name]}, as in LibMTL.")
        elif methods.VARIANTS.get(name) not in trained:
            rows.append(outcome)
    if weighted := [o.name for o in rows if o.method in _WEIGHTED]:
        notes.append(
            f"{' and '.join(weighted)} weigh the gradients of the heads, too, as in the paper."
        )
    return [*rows, *([chosen] if chosen else [])], notes


_FORMS = {
    "moco": "averages gradients of unit length times the loss, with a softmax for its projection",
    "grad_drop": "chooses among the gradients of the representation",
}
"""What `methods.VARIANTS` are."""

_WEIGHTED = ("mgda", "grad_norm")
"""The methods with another choice, which LibMTL makes for MGDA."""


def is_rate(method: str) -> bool:
    """Whether the method is DB-MTL with no other options than those of the forgetting rate."""
    spec = methods.parse(method)
    is_db_mtl = spec.method == DB_MTL and not spec.balancers and spec.is_usual
    are_numbers = all(type(value) in (int, float) for value in spec.options.values())
    return is_db_mtl and spec.options.keys() <= {"beta", "sigma"} and are_numbers


def rate(method: str) -> tuple[float, float]:
    """β and σ of the forgetting rate β / k^σ of a method for which `is_rate` holds."""
    options = methods.parse(method).options
    found = options if "beta" in options else methods.DB_MTL_DEFAULTS | options
    return found["beta"], found.get("sigma", 0)


def rate_title(method: str) -> str:
    """The forgetting rate of a method as text, such as `β = 0.9/√k`."""
    beta, sigma = rate(method)
    shown = methods.display_name(f"{DB_MTL}@beta={beta},sigma={sigma}")
    return shown.partition("(")[2].rstrip(")")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
