"""The bar charts of the paper: Figures 1, 2, 3, 4 and 6."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks import methods
from benchmarks.report.figures import bars, style
from benchmarks.report.paper.parts import Make, Parts, Studies, delta_table, need, select
from benchmarks.report.records.choice import DB_MTL, rate_title
from benchmarks.report.records.results import Outcome

_LABEL = "Δp on the test set (%), higher is better"
_SPREAD = "error bars are the standard deviation over seeds, where there are several"

WITH_LOG = ("pcgrad", "grad_vac", "imtl_g", "cagrad", "nash_mtl", "aligned_mtl")
"""The methods of Figure 1 that it shows on losses and on their logarithms."""


def with_log(studies: Studies) -> Parts:
    """Figure 1: Δp of gradient balancing methods without and with the logarithm of the losses."""
    (study,) = studies.values()
    names = [n for method in WITH_LOG for n in (method, f"log+{method}")]
    found, notes = select(study, [*names, DB_MTL])
    chained = [n for n in found if n.startswith("log+")]
    need(chained, studies, " or ".join(f"log+{m}" for m in WITH_LOG))
    shown = [m for m in WITH_LOG if m in found or f"log+{m}" in found]
    labels = [*(methods.DISPLAY_NAMES[m] for m in shown), *["DB-MTL"] * (DB_MTL in found)]
    colours = [style.colour(m) for m in [*shown, DB_MTL]][: len(labels)]
    figure, axis = _figure(labels)
    vanilla, logged = (
        [found[n].delta_p if (n := before + m) in found else np.array([]) for m in shown]
        for before in ("", "log+")
    )
    only = [np.array([])] * (DB_MTL in found)
    bars.grouped(
        axis,
        labels,
        [
            bars.Series("", colours, "", vanilla + only),
            bars.Series("", colours, bars.CHAIN_HATCH, logged + only),
        ],
    )
    if DB_MTL in found:
        own = [np.array([])] * len(shown) + [found[DB_MTL].delta_p]
        bars.grouped(axis, labels, [bars.Series("", colours, "", own)], width=0.4)
    bars.legend(
        figure,
        axis,
        [
            Patch(facecolor="0.5", edgecolor="white", label="vanilla"),
            Patch(facecolor="0.5", edgecolor="white", hatch=bars.CHAIN_HATCH, label="with log"),
        ],
    )
    rows = {
        label: {
            heading: found[n].delta_p
            for heading, n in (("vanilla", m), ("with log", f"log+{m}"))
            if n in found
        }
        for label, m in zip(labels, [*shown, DB_MTL], strict=False)
    }
    caption = (
        "Gradient balancing methods as they are (vanilla) and on the logarithm of the losses "
        f"(hatched), beside DB-MTL; {_SPREAD}."
    )
    return Parts(caption, delta_table("method", rows, "Δp (%)"), {"": figure}, notes)


def pair(names: Sequence[str], caption: str) -> Make:
    """Figures 2 and 3: a function that compares the Δp of two methods on every data set."""

    def make(studies: Studies) -> Parts:
        found, notes = {}, []
        for study in studies.values():
            here, said = select(study, names)
            notes += said
            if here:
                found[study.title] = here
        both = [here for here in found.values() if len(here) == len(names)]
        need(both, studies, " and ".join(names))
        figure, axis = _figure(list(found), wide=2.0)
        outcomes = {n: next((f[n] for f in found.values() if n in f), None) for n in names}
        series = [
            bars.of(o, [f[n].delta_p if n in f else np.array([]) for f in found.values()])
            for n, o in outcomes.items()
            if o is not None
        ]
        bars.grouped(axis, [t.replace(" (", "\n(") for t in found], series)
        bars.legend(figure, axis)
        rows = {title: {o.name: o.delta_p for o in here.values()} for title, here in found.items()}
        table = delta_table("data set", rows, "Δp (%)")
        return Parts(f"{caption}; {_SPREAD}.", table, {"": figure}, notes)

    return make


BY_TASK = ("gls", "igbv2", DB_MTL)
"""The methods of Figure 4."""


def by_task(studies: Studies) -> Parts:
    """Figure 4: Δp of every task, with a panel for each network."""
    found, notes = {}, []
    for study in studies.values():
        here, said = select(study, BY_TASK)
        notes += said
        if here:
            found[study.title] = here
    need(found, studies, ", ".join(BY_TASK))
    figure = Figure(figsize=(4.6 * len(found) + 0.4, 4.4), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    rows: dict[str, dict[str, np.ndarray]] = {}
    seen: dict[str, Any] = {}
    for axis, (title, here) in zip(axes, found.items(), strict=True):
        outcomes = list(here.values())
        tasks = outcomes[0].columns.task_titles
        bars.grouped(axis, tasks, [bars.of(o, list(o.delta_p_per_task.T)) for o in outcomes])
        axis.set_title(title, fontsize=10)
        seen |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
        for outcome in outcomes:
            cells = dict(zip(tasks, outcome.delta_p_per_task.T, strict=True))
            rows[f"{outcome.name}, {title}"] = cells
    axes[0].set_ylabel("improvement over STL (%),\nhigher is better")
    bars.legend(figure, axes[0], list(seen.values()))
    caption = f"The relative improvement of every task over single-task learning; {_SPREAD}."
    return Parts(caption, delta_table("method", rows, "Δp,t (%)"), {"": figure}, notes)


_STRATEGIES = ("min", "mean", "median", "max")


def strategies(studies: Studies) -> Parts:
    """Figure 6: Δp of DB-MTL for different norms to which the gradients are scaled."""
    (study,) = studies.values()
    variants = [o.method for o in study.outcomes if _scale(o) is not None]
    found, notes = select(study, [*variants, DB_MTL], tuned=False)
    need(len(found) > 1, studies, f"{DB_MTL} and {DB_MTL}@scale=…")
    by_scale = {_scale(o) or "max": o for o in found.values()}
    lacking = [s for s in _STRATEGIES if s not in by_scale]
    if lacking:
        notes.append(f"{study.title}: no finished runs with α = {', '.join(lacking)}.")
    ordered = [s for s in by_scale if s not in _STRATEGIES]  # constant norms come first
    ordered += [s for s in _STRATEGIES if s in by_scale]
    labels = [f"constant {s}" if s not in _STRATEGIES else s for s in ordered]
    values = [by_scale[s].delta_p for s in ordered]
    figure, axis = _figure(labels, wide=1.3)
    bars.grouped(axis, labels, [bars.Series("", [style.colour(DB_MTL)] * len(labels), "", values)])
    axis.set_xlabel("α: the norm that every task's gradient is scaled to")
    rows = {label: {"": value} for label, value in zip(labels, values, strict=True)}
    caption = (
        "DB-MTL by the norm that it scales every task's averaged gradient to: their minimum, "
        f"mean, median or maximum, or a constant; all with {rate_title(DB_MTL)} unless a note says "
        f"otherwise; {_SPREAD}."
    )
    return Parts(caption, delta_table("α", rows, "Δp (%)"), {"": figure}, notes)


def _scale(outcome: Outcome) -> str | None:
    """The value of the option `scale` of DB-MTL; None if there are other options or none."""
    spec = methods.parse(outcome.method)
    is_db_mtl = spec.method == DB_MTL and not spec.balancers and spec.is_usual
    alone = is_db_mtl and spec.options.keys() == {"scale"}
    scale = spec.options.get("scale")
    return (scale if isinstance(scale, str) else f"{scale:g}") if alone else None


def _figure(labels: Sequence[str], wide: float = 1.1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(max(5.5, 1.2 + wide * len(labels)), 4.4), layout="constrained")
    axis = figure.subplots()
    axis.set_ylabel(_LABEL)
    return figure, axis
