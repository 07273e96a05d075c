"""Questions that the paper does not ask: cheap forms of methods, and learning rates."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from benchmarks import methods
from benchmarks.report.figures import style
from benchmarks.report.paper.parts import Parts, Studies, need, select
from benchmarks.report.records.choice import BETA_GRID, DB_MTL, rate_title
from benchmarks.report.records.results import Outcome
from benchmarks.report.tables import comparison, table

_FORMS = {
    "": ("all gradients", "o"),
    "@wrt=representation": ("of the representation", "s"),
    "@measured=last": ("of the last shared layer", "^"),
    "@refresh=4": ("all, every 4 steps", "D"),
    "@refresh=16": ("all, every 16 steps", "v"),
}
"""What the weights of a method are computed from, and its marker."""
_WITH_FORMS = (DB_MTL, "nash_mtl", "aligned_mtl", "imtl_g")

FORMS = ("ew", *(method + form for method in _WITH_FORMS for form in _FORMS))
"""The methods of `cheap_forms`."""


def cheap_forms(studies: Studies) -> Parts:
    """Δp and the time of a step, of methods as they are and in forms of about one pass."""
    (study,) = studies.values()
    found, notes = select(study, FORMS, tuned=False)
    shown = {name: outcome for name, outcome in found.items() if name != "ew"}
    need([n for n in shown if "@" in n], studies, "a cheap form, such as db_mtl@measured=last")
    ew = found.get("ew")
    unit = math.nan if ew is None else ew.steps_per_second
    rows = []
    if ew is not None:
        rows.append(["EW", "–", comparison.figure(ew.delta_p, 2), "1.00"])
    for method in _WITH_FORMS:
        for form, (read, _) in _FORMS.items():
            if (outcome := shown.get(method + form)) is not None:
                cost = unit / outcome.steps_per_second
                title = methods.display_name(method)
                delta_p = comparison.figure(outcome.delta_p, 2)
                rows.append([title, read, delta_p, "–" if math.isnan(cost) else f"{cost:.2f}"])
    headings = ["method", "gradients that it reads", "Δp (%) ↑", "time / EW"]
    caption = (
        "Methods whose weights are computed from all gradients of the shared parameters, and their "
        "cheap forms; Δp on the test set, mean ± standard deviation over seeds, and the time of a "
        "training step over that of equal weighting."
    )
    figures = {"": _costs(shown, ew)} if ew is not None else {}
    return Parts(caption, table.plain(headings, rows), figures, notes)


def _costs(shown: Mapping[str, Outcome], ew: Outcome) -> Figure:
    """Δp over the time of a step; a line joins the forms of a method."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axis = figure.subplots()
    axis.axhline(float(ew.delta_p.mean()), color="0.6", linewidth=1, linestyle="--")
    axis.plot(1, float(ew.delta_p.mean()), marker="P", color="black", linestyle="none", label="EW")
    for method in _WITH_FORMS:
        points = [
            (ew.steps_per_second / outcome.steps_per_second, outcome.delta_p, marker)
            for form, (_, marker) in _FORMS.items()
            if (outcome := shown.get(method + form)) is not None
        ]
        points.sort(key=lambda point: point[0])
        colour = style.colour(method)
        axis.plot(
            [cost for cost, _, _ in points],
            [float(values.mean()) for _, values, _ in points],
            color=colour,
            alpha=0.4,
            label=methods.display_name(method) if points else None,
        )
        for cost, values, marker in points:
            spread = values.std(ddof=1) if len(values) > 1 else None
            axis.errorbar(
                cost, float(values.mean()), yerr=spread, marker=marker, color=colour, capsize=2,
                linestyle="none", markersize=7, elinewidth=0.8,
            )  # fmt: skip
    for read, marker in _FORMS.values():
        axis.plot([], [], marker=marker, color="0.4", linestyle="none", label=read)
    axis.set_xlabel("time of a training step / EW")
    axis.set_ylabel("Δp on the test set (%), higher is better")
    axis.grid(alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


_RATED = ("ew", "gls", DB_MTL, "pcgrad", "nash_mtl", "aligned_mtl", "mtadam")
_RATES = {"@rate=0.333": "× 1/3", "": "× 1", "@rate=3": "× 3"}

RATES = (*(method + rate for method in _RATED for rate in _RATES), *BETA_GRID)
"""The methods of `learning_rates`."""


def learning_rates(studies: Studies) -> Parts:
    """Δp at three learning rates, and at the one that validation chooses."""
    (study,) = studies.values()
    found, notes = select(study, RATES, tuned=False)
    need([n for n in found if "rate=" in n], studies, "another rate, such as mtadam@rate=3")
    rows = []
    for method in _RATED:
        by_rate = {title: found.get(method + rate) for rate, title in _RATES.items()}
        rows.append(_row(methods.display_name(method), by_rate))
    rates = {rate_title(name): found.get(name) for name in (DB_MTL, *BETA_GRID)}
    best, chosen = _best(rates)
    title = f"{methods.display_name(DB_MTL)}, its best β"
    rows.append([title, *["–"] * len(_RATES), chosen, best])
    headings = ["method", *_RATES.values(), "chosen", "Δp (%) of the chosen ↑"]
    caption = (
        "Δp on the test set, mean ± standard deviation over seeds, with a third of the learning "
        "rate, with it, and with three times as much. The chosen rate, and DB-MTL's chosen "
        "forgetting rate of the paper's six, have the best mean validation Δp; single-task "
        "networks are trained at the usual rate."
    )
    return Parts(caption, table.plain(headings, rows), notes=notes)


def _row(title: str, by_rate: Mapping[str, Outcome | None]) -> list[str]:
    figures = ["–" if o is None else comparison.figure(o.delta_p, 2) for o in by_rate.values()]
    best, chosen = _best(by_rate)
    return [title, *figures, chosen, best]


def _best(choices: Mapping[str, Outcome | None]) -> tuple[str, str]:
    """The test Δp of the choice that is best in validation, and its title; – where there is none.

    One that stands alone was not chosen.
    """
    scores = {
        title: float(outcome.validation_delta_p.mean())
        for title, outcome in choices.items()
        if outcome is not None and np.isfinite(outcome.validation_delta_p).all()
    }
    if len(scores) < 2:
        return "–", "–"
    title = max(scores, key=lambda each: scores[each])
    outcome = choices[title]
    return comparison.figure(outcome.delta_p, 2) if outcome is not None else "–", title
