"""Random choices of colours and other things."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from benchmarks.data.sample.textures import Colour

T = TypeVar("T")


def choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, all with the same probability."""
    return options[int(rng.integers(len(options)))]


def any_colour(rng: np.random.Generator) -> Colour:
    """A random colour of any hue, neither very dark nor very bright."""
    hue, bright, strong = rng.uniform(0, 6), rng.uniform(0.35, 0.85), rng.uniform(0.2, 0.8)
    rgb = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return colour(bright * (1 - strong + strong * rgb))


def wood(rng: np.random.Generator) -> Colour:
    """A random brown, dark to light."""
    return colour(np.array([0.55, 0.38, 0.23]) * rng.uniform(0.6, 1.5))


def dark(of: Colour) -> Colour:
    """A darker shade of a colour."""
    return colour(0.6 * np.array(of))


def light(of: Colour) -> Colour:
    """A paler shade of a colour."""
    return colour(0.5 + 0.5 * np.array(of))


def colour(rgb: np.ndarray) -> Colour:
    """A colour from an array [3], clipped to [0, 1]."""
    r, g, b = np.clip(rgb, 0, 1)
    return float(r), float(g), float(b)
