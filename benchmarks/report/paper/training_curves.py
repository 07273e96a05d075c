"""The figures of the paper with curves: Figures 5, 8, 9 and 10."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from benchmarks.report.figures import cosines, curves, plots, style
from benchmarks.report.paper.parts import Make, Parts, Studies, need, select
from benchmarks.report.records import choice
from benchmarks.report.records.choice import DB_MTL
from benchmarks.report.records.results import Outcome
from benchmarks.report.tables import comparison, table

PAIR = ("ew", DB_MTL)
"""The methods that the curves are of."""


def over_epochs(panels: str, caption: str) -> Make:
    """Figures 8 and 9: a function that draws one of `plots.panels` for EW and DB-MTL."""

    def make(studies: Studies) -> Parts:
        (study,) = studies.values()
        found, notes = select(study, PAIR, compared=False)
        shown = plots.panels(study.columns)[panels]
        figure = curves.draw(list(found.values()), shown) if found else None
        need(figure, studies, f"{' or '.join(PAIR)} with {panels.replace('_', ' ')}")
        return Parts(caption, None, {"": figure} if figure else {}, notes)

    return make


def cosine_similarity(studies: Studies) -> Parts:
    """Figure 10: the cosine similarities of the tasks' gradients, for EW and DB-MTL."""
    (study,) = studies.values()
    found, notes = select(study, PAIR, compared=False)
    figure = cosines.draw(list(found.values()))
    need(figure, studies, f"{' or '.join(PAIR)} with cosine similarities")
    caption = (
        "Cosine similarity of the tasks' gradients over training, of EW and DB-MTL; below zero "
        "two gradients are in conflict."
    )
    return Parts(caption, None, {"": figure} if figure else {}, notes)


_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("s", "o", "D", "^")


def forgetting_rates(studies: Studies) -> Parts:
    """Figure 5: Δp of DB-MTL over its forgetting rate, constant and decreasing."""
    (study,) = studies.values()
    rates = [o.method for o in study.outcomes if choice.is_rate(o.method) and o.method != DB_MTL]
    plain = study.find(DB_MTL)
    found, notes = select(study, [*rates, *[DB_MTL] * (plain is not None)], tuned=False)
    need(len(found) > 1, studies, f"{DB_MTL}@beta=… with more than one rate")
    by_rate = {choice.rate(o.method): o for o in found.values()}
    still = next((o for (beta, _), o in by_rate.items() if beta == 0), None)
    sigmas = sorted({sigma for beta, sigma in by_rate if beta != 0})
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axis = figure.subplots()
    look: dict[str, Any] = {"color": style.colour(DB_MTL), "capsize": 3, "markersize": 6}
    for position, (sigma, dash, marker) in enumerate(
        zip(sigmas, itertools.cycle(_DASHES), itertools.cycle(_MARKERS), strict=False)
    ):
        betas = sorted(beta for beta, s in by_rate if s == sigma and beta != 0)
        points = [by_rate[beta, sigma] for beta in betas]
        shift = 0.006 * (position - (len(sigmas) - 1) / 2)  # keeps error bars apart
        axis.errorbar(
            np.array(betas) + shift, *_means(points), linestyle=dash, marker=marker,
            markerfacecolor="white" if position else look["color"], label=_name(sigma), **look,
        )  # fmt: skip
    if still is not None:
        axis.errorbar([0], *_means([still]), linestyle="none", marker="X",
                      label="β = 0: no average", **look)  # fmt: skip
        axis.axhline(still.delta_p.mean(), color="0.5", linestyle=":", linewidth=1)
    else:
        notes.append(f"{study.title}: no finished runs of {DB_MTL}@beta=0, without an average.")
    axis.set_xlabel("β")
    axis.xaxis.set_major_locator(MultipleLocator(0.1))
    axis.set_ylabel("Δp on the test set (%), higher is better")
    axis.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=len(sigmas) + 1, frameon=False)
    betas = sorted({beta for beta, _ in by_rate if beta != 0})
    rows = [["0", *[comparison.figure(still.delta_p, 2)] * max(len(sigmas), 1)]] if still else []
    for beta in betas:
        cells = [by_rate.get((beta, sigma)) for sigma in sigmas]
        rows.append([f"{beta:g}", *(comparison.figure(o.delta_p, 2) if o else "–" for o in cells)])
    headings = ["β", *(f"{_name(sigma)}: Δp (%)" for sigma in sigmas or [0])]
    caption = (
        "Δp of DB-MTL over the forgetting rate of its average of gradients, mean and standard "
        "deviation over seeds; k is the number of the step."
    )
    return Parts(caption, table.plain(headings, rows), {"": figure}, notes)


def _name(sigma: float) -> str:
    return {0: "constant β", 0.5: "β/√k", 1: "β/k"}.get(sigma, f"β/k^{sigma:g}")


def _means(outcomes: Sequence[Outcome]) -> tuple[list[float], list[float] | None]:
    """The means and standard deviations; None for the latter if there is only one seed."""
    means = [float(o.delta_p.mean()) for o in outcomes]
    if all(len(o.delta_p) < 2 for o in outcomes):
        return means, None
    return means, [float(o.delta_p.std(ddof=1)) if len(o.delta_p) > 1 else 0 for o in outcomes]
