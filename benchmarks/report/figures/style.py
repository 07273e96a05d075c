"""The colours and markers of methods, the same in all figures and safe for the colour-blind."""

from typing import Any

from benchmarks import methods
from benchmarks.methods import DISPLAY_NAMES
from benchmarks.report.records.results import Outcome

# The palette of Okabe and Ito for the colour-blind, and eight markers. A method has the same pair
# in every figure; the baselines STL and EW, and DB-MTL, come first.
_PALETTE = (
    "#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D1F",
)  # fmt: skip
_MARKERS = ("s", "^", "o", "D", "v", "P", "X", "*")
_FIRST = ("stl", "ew", "db_mtl")
_EXCHANGED = {"mgda": "grad_norm", "grad_norm": "mgda"}
"""Methods that swap places, as GradNorm would have the colour of DB-MTL in the same figure."""
_ORDER = (*_FIRST, *(_EXCHANGED.get(n, n) for n in DISPLAY_NAMES if n not in _FIRST))


def colour(method: str) -> str:
    """The colour of a method and of its chains and variants."""
    return _PALETTE[_position(method) % len(_PALETTE)]


def of(outcome: Outcome) -> dict[str, Any]:
    """The style of a method; chains and variants have an open marker and a dashed line."""
    spec = methods.parse(outcome.method)
    method = spec.method
    position = _position(method)
    # Each round of the eight colours shifts the markers by one: pairs repeat after 56 methods.
    style = {
        "color": colour(method),
        "marker": _MARKERS[(position + position // len(_PALETTE)) % len(_MARKERS)],
        "label": outcome.name,
    }
    is_plain = spec.is_usual and spec.is_plain
    return style if is_plain else style | {"markerfacecolor": "white", "linestyle": "--"}


FEW = 6
"""More methods than this do not fit side by side in a figure."""


def _position(method: str) -> int:
    return _ORDER.index(method) if method in _ORDER else len(_ORDER)
