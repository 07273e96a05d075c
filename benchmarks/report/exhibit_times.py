"""The paper's Figure 7: what training with each method costs."""

import math

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks import methods
from benchmarks.report import choice, table
from benchmarks.report.parts import Parts, Studies, need
from benchmarks.report.results import Outcome

# Okabe and Ito's nearest to the paper's cyan, red, yellow and blue.
_KINDS = {
    "loss balancing": "#56B4E9",
    "gradient balancing": "#D55E00",
    "hybrid balancing": "#F0E442",
    "others": "#0072B2",
}
_LOSS = ("gls", "rlw", "uw", "dwa", "imtl_l", "igbv2")
_HYBRID = ("imtl", "db_mtl")
_OTHERS = (methods.BASELINE, "ew")


def times(studies: Studies) -> Parts:
    """The time of an epoch of every method; of a step where the runs do not tell their steps."""
    (study,) = studies.values()
    headline, _ = choice.headline(study.outcomes)
    notes = [f"{study.title}: {o.name} failed: {f}." for o in headline for f in o.failed]
    finished = [o for o in headline if len(o.test) and o.steps_per_second > 0]
    need(finished, studies, "some method")
    ordered = sorted(finished, key=lambda o: -o.steps_per_second)
    steps = [_steps_per_epoch(o) for o in ordered]
    by_epoch = all(steps)
    seconds = [(n if n and by_epoch else 1) / o.steps_per_second
               for n, o in zip(steps, ordered, strict=True)]  # fmt: skip
    what = "epoch" if by_epoch else "training step"
    unit, scale = ("s", 1.0) if max(seconds) >= 1 else ("ms", 1e3)
    ew = next((s for s, o in zip(seconds, ordered, strict=True) if o.method == "ew"), math.nan)

    figure = Figure(figsize=(7.5, 1.5 + 0.27 * len(ordered)), layout="constrained")
    axis = figure.subplots()
    shown = [scale * s for s in seconds]
    colours = [_KINDS[_kind(o)] for o in ordered]
    bars = axis.barh(range(len(ordered)), shown, color=colours, edgecolor="0.3", linewidth=0.5)
    ratios = ["" if math.isnan(ew) else f" ({s / ew:.2f} × EW)" for s in seconds]
    texts = [f"{_short(value)} {unit}{ratio}" for value, ratio in zip(shown, ratios, strict=True)]
    axis.bar_label(bars, texts, padding=3, fontsize=8)
    axis.set_xlim(0, 1.3 * max(shown))
    axis.set_yticks(range(len(ordered)), [o.name for o in ordered])
    axis.invert_yaxis()
    axis.set_xlabel(f"time of {'an' if by_epoch else 'a'} {what} ({unit}), median")
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
        [o.name, _kind(o), _short(value), *([] if math.isnan(ew) else [f"{s / ew:.2f}"])]
        for o, value, s in zip(ordered, shown, seconds, strict=True)
    ]
    headings = ["method", "kind", f"time of an epoch ({unit})" if by_epoch else f"step ({unit})"]
    headings += [] if math.isnan(ew) else ["time / EW"]
    measured = (
        "the median step, all methods timed in turns"
        if study.has_step_times
        else "the median of the runs' own speeds, which other work on the machine may have changed"
    )
    caption = f"Time of {'an epoch' if by_epoch else 'a step'} of training: {measured}."
    return Parts(caption, table.plain(headings, rows), {"": figure}, notes)


def _kind(outcome: Outcome) -> str:
    method = methods.parse(outcome.method).method
    for kind, members in zip(_KINDS, (_LOSS, (), _HYBRID, _OTHERS), strict=True):
        if method in members:
            return kind
    return "gradient balancing"


def _steps_per_epoch(outcome: Outcome) -> int:
    """0 where the records do not tell."""
    return next((int(e[0].get("step", 0)) for e in outcome.epochs if e), 0)


def _short(value: float) -> str:
    """Three digits."""
    return f"{value:#.3g}".rstrip(".")
