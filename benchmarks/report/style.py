"""How a method looks: the same in every figure, in print and to the colour-blind."""

from typing import Any

from benchmarks import methods
from benchmarks.methods import DISPLAY_NAMES
from benchmarks.report.results import Outcome

# Okabe and Ito's palette, for the colour-blind, and eight markers: a method has the same pair in
# every figure. The paper's own method and the two that everything is compared with come first.
_PALETTE = (
    "#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D1F",
)  # fmt: skip
_MARKERS = ("s", "^", "o", "D", "v", "P", "X", "*")
_FIRST = ("stl", "ew", "db_mtl")
_ORDER = (*_FIRST, *(name for name in DISPLAY_NAMES if name not in _FIRST))


def of(outcome: Outcome) -> dict[str, Any]:
    """A chain or a variant looks like its method, with an open marker and a dashed line."""
    balancers, method, options = methods.parse(outcome.method)
    position = _ORDER.index(method) if method in _ORDER else len(_ORDER)
    # Seven steps in the markers for each of eight colours: pairs repeat after 56 methods.
    style = {
        "color": _PALETTE[position % len(_PALETTE)],
        "marker": _MARKERS[(position + position // len(_PALETTE)) % len(_MARKERS)],
        "label": outcome.name,
    }
    varied = {"markerfacecolor": "white", "linestyle": "--"} if balancers or options else {}
    return style | varied


FEW = 6
"""More methods than this do not fit beside each other."""
