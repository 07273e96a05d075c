"""Textures of surfaces: the colour of each point of a solid."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Pattern = Literal[
    "plain", "stripes", "checks", "dots", "rings", "planks", "bricks", "cloth", "panes"
]


class Texture(NamedTuple):
    """One colour, or a pattern of two colours."""

    colour: Colour
    """first colour"""
    pattern: Pattern = "plain"
    """how the colours are mixed"""
    second: Colour = (0.9, 0.9, 0.9)
    """second colour of the pattern"""
    period: float = 0.2
    """period of the pattern in metres"""
    rough: float = 0.05
    """how much the brightness varies"""


def paint(texture: Texture, points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Colours [N, 3] in [0, 1] of points [N, 3], given in metres from the centre of the solid."""
    first, second = (np.asarray(c, np.float32) for c in (texture.colour, texture.second))
    share = _share(texture.pattern, points / texture.period)[:, None]
    mixed = first + share * (second - first)
    cloud = _cloud(points)[:, None]
    return np.clip(mixed * (1 + texture.rough * cloud), 0, 1).astype(np.float32)


def _share(pattern: Pattern, p: NDArray[np.floating]) -> NDArray[np.floating]:
    """The share of the second colour at each point, [N]."""
    x, y, z = (p + 0.25).T
    if pattern == "stripes":
        return _half(y + 0.35 * (x + z))
    if pattern == "checks":
        cells = np.floor(2 * x) + np.floor(2 * y) + np.floor(2 * z)
        return (cells % 2).astype(np.float32)
    if pattern == "dots":
        cell = (p % 1 - 0.5) ** 2
        # A grid of balls: the surface cuts them in dots.
        return (cell.sum(-1) < 0.14).astype(np.float32)
    if pattern == "rings":
        return _half(np.sqrt(x * x + z * z) * 1.5)
    if pattern == "planks":
        board = np.floor(x)
        grain = 0.5 + 0.5 * np.sin(9 * x + 3 * np.sin(0.7 * z + 5 * board) + 2.4 * board)
        seam = (x % 1 < 0.06) | ((z / 6 + 0.37 * board) % 1 < 0.012)
        return np.where(seam, 1.0, 0.35 * grain + 0.25 * ((board * 0.618) % 1))
    if pattern == "bricks":
        along = x + z + 0.5 * (np.floor(2 * y) % 2)
        seam = (along % 1 < 0.08) | ((2 * y) % 1 < 0.14)
        return seam.astype(np.float32)
    if pattern == "panes":
        across = np.minimum(x % 1, z % 1)
        pane = (np.abs((x + z) % 1 - 0.5) < 0.28) & (np.abs(y % 1 - 0.5) < 0.3)
        return np.where(across < -1, 0.0, pane.astype(np.float32))
    if pattern == "cloth":
        return 0.25 * (np.sin(40 * x) * np.sin(40 * y) * np.sin(40 * z + 1) + 1)
    return np.zeros(len(p), np.float32)


def _half(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return (x % 1 < 0.5).astype(np.float32)


def _cloud(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Smooth variations of the brightness, about -1 to 1, [N]."""
    total = np.zeros(len(points), np.float32)
    for k, (fx, fy, fz) in enumerate(((3.1, 2.3, 4.7), (7.9, 11.3, 6.1), (23.0, 19.0, 29.0))):
        total += np.sin(points @ np.array([fx, fy, fz], np.float32) + k + np.sin(fy * points[:, 0]))
    return total / 3
