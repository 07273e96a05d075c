"""Figure 7 of the paper: the training time of each method."""

import math
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks import methods
from benchmarks.report.paper.parts import Parts, Studies, need
from benchmarks.report.records import choice
from benchmarks.report.records.results import Outcome
from benchmarks.report.records.study import Study
from benchmarks.report.tables import table

# The colours of Okabe and Ito that are closest to those of the paper.
_KINDS = {
    "loss balancing": "#56B4E9",
    "gradient balancing": "#D55E00",
    "hybrid balancing": "#F0E442",
    "others": "#0072B2",
}
_LOSS = ("uw", "dwa", "imtl_l", "igbv2")
_HYBRID = ("imtl", "db_mtl")
_OTHERS = (methods.BASELINE, "ew", "gls", "rlw")
"""The groups of Section 4.1."""


def times(studies: Studies) -> Parts:
    """Figure 7: the time of an epoch for every method."""
    (study,) = studies.values()
    measured, unfinished = _measured(study)
    need(measured, studies, "some method")
    notes = [f"{study.title}: {line}." for line in unfinished]
    ordered = sorted(measured, key=lambda m: measured[m])
    seconds = [measured[method].seconds for method in ordered]
    over_ew = [measured[method].over_ew for method in ordered]
    unit, scale = ("s", 1.0) if max(seconds) >= 1 else ("ms", 1e3)

    figure = Figure(figsize=(7.5, 1.5 + 0.27 * len(ordered)), layout="constrained")
    axis = figure.subplots()
    shown = [scale * s for s in seconds]
    colours = [_KINDS[_kind(method)] for method in ordered]
    bars = axis.barh(range(len(ordered)), shown, color=colours, edgecolor="0.3", linewidth=0.5)
    ratios = ["" if math.isnan(ratio) else f" ({ratio:.2f} × EW)" for ratio in over_ew]
    texts = [f"{_short(value)} {unit}{ratio}" for value, ratio in zip(shown, ratios, strict=True)]
    axis.bar_label(bars, texts, padding=3, fontsize=8)
    axis.set_xlim(0, 1.3 * max(shown))
    names = [methods.display_name(methods.row_name(m)) for m in ordered]
    axis.set_yticks(range(len(ordered)), names, parse_math=False)
    axis.invert_yaxis()
    axis.set_xlabel(f"time of an epoch ({unit}), median")
    axis.grid(alpha=0.25, axis="x")
    axis.set_axisbelow(True)
    kinds = [k for k in _KINDS if k in set(map(_kind, ordered))]
    figure.legend(
        handles=[Patch(facecolor=_KINDS[k], edgecolor="0.3", label=k) for k in kinds],
        loc="outside upper center",
        ncols=len(kinds),
        frameon=False,
    )
    rows = [
        [
            methods.display_name(methods.row_name(method)),
            _kind(method),
            _short(value),
            *([] if math.isnan(ratio) else [f"{ratio:.2f}"]),
        ]
        for method, value, ratio in zip(ordered, shown, over_ew, strict=True)
    ]
    headings = ["method", "kind", f"time of an epoch ({unit})"]
    headings += [] if math.isnan(over_ew[0]) else ["time / EW"]
    how = (
        f"its steps times the median of {study.step_times.rounds}, all methods in turns"
        if study.step_times is not None
        else "by the runs' own speeds, which other work on the machine may have changed"
    )
    caption = f"Time of an epoch of training: {how}."
    return Parts(caption, table.plain(headings, rows), {"": figure}, notes)


class _Cost(NamedTuple):
    seconds: float  # time of an epoch
    over_ew: float  # relative to equal weighting; NaN without it


def _measured(study: Study) -> tuple[dict[str, _Cost], list[str]]:
    """The times of every method, and messages on failed runs."""
    times = study.step_times
    if times is not None:
        steps = times.steps_per_epoch / 1e3
        return {
            method: _Cost(steps * record["milliseconds"], record.get("over_ew", math.nan))
            for method, record in times.methods.items()
        }, []
    headline, _ = choice.headline(study.outcomes)
    finished = [o for o in headline if any(o.epochs)]
    failed = [f"{o.name} failed: {failure}" for o in headline for failure in o.failed]
    seconds = {o.method: _steps_per_epoch(o) / o.steps_per_second for o in finished}
    ew = seconds.get("ew", math.nan)
    return {method: _Cost(s, s / ew) for method, s in seconds.items()}, failed


def _kind(name: str) -> str:
    method = methods.parse(name).method
    for kind, members in zip(_KINDS, (_LOSS, (), _HYBRID, _OTHERS), strict=True):
        if method in members:
            return kind
    return "gradient balancing"


def _steps_per_epoch(outcome: Outcome) -> int:
    """The number of steps in the first epoch."""
    return next(int(epochs[0]["step"]) for epochs in outcome.epochs if epochs)


def _short(value: float) -> str:
    """Formats a number with three significant digits."""
    return f"{value:#.3g}".rstrip(".")
