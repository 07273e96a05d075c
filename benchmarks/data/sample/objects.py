"""Objects for classification: a class is a shape with a pattern, in any colours."""

from collections.abc import Callable

import numpy as np

from benchmarks.data.sample.render import Solid
from benchmarks.data.sample.textures import Colour, Pattern, Texture

Object = list[Solid]

_PATTERNS: dict[str, Pattern] = {
    "plain": "plain",
    "striped": "stripes",
    "checked": "checks",
    "dotted": "dots",
    "barred": "rings",
}


def class_names(count: int) -> list[str]:
    """The names of the first `count` classes, such as "striped_chair"; there are 65."""
    names = [f"{pattern}_{shape}" for pattern in _PATTERNS for shape in _SHAPES]
    return names[:count]


def make(name: str, rng: np.random.Generator) -> Object:
    """An object of a class in two random colours, about a metre in size; it stands on y = 0."""
    pattern, _, shape = name.partition("_")
    first, second = _two_colours(rng)
    texture = Texture(first, _PATTERNS[pattern], second, 0.34, 0.03)
    return _SHAPES[shape](texture)


def _box(t: Texture, x, y, z, w, h, d) -> Solid:
    return Solid("box", (x, y + h / 2, z), (w / 2, h / 2, d / 2), 0, t)


def _round(t: Texture, shape, x, y, z, r, h) -> Solid:
    return Solid(shape, (x, y + h / 2, z), (r, h / 2, r), 0, t)


def _chair(t: Texture) -> Object:
    legs = [_box(t, x, 0, z, 0.08, 0.45, 0.08) for x in (-0.25, 0.25) for z in (-0.25, 0.25)]
    return [_box(t, 0, 0.45, 0, 0.6, 0.08, 0.6), _box(t, 0, 0.5, -0.26, 0.6, 0.6, 0.08), *legs]


def _table(t: Texture) -> Object:
    legs = [_box(t, x, 0, z, 0.08, 0.55, 0.08) for x in (-0.5, 0.5) for z in (-0.3, 0.3)]
    return [_box(t, 0, 0.55, 0, 1.15, 0.08, 0.75), *legs]


def _snowman(t: Texture) -> Object:
    return [
        _round(t, "sphere", 0, y, 0, r, 2 * r) for y, r in ((0, 0.36), (0.58, 0.26), (0.98, 0.18))
    ]


def _dumbbell(t: Texture) -> Object:
    bar = _box(t, 0, 0.22, 0, 0.9, 0.12, 0.12)
    return [bar, *(_round(t, "sphere", x, 0, 0, 0.28, 0.56) for x in (-0.45, 0.45))]


def _stairs(t: Texture) -> Object:
    return [_box(t, -0.375 + 0.25 * k, 0, 0, 0.25, 0.22 * (k + 1), 0.7) for k in range(4)]


def _arch(t: Texture) -> Object:
    sides = [_box(t, x, 0, 0, 0.22, 0.75, 0.35) for x in (-0.4, 0.4)]
    return [*sides, _box(t, 0, 0.75, 0, 1.02, 0.22, 0.35)]


def _mushroom(t: Texture) -> Object:
    return [_round(t, "cylinder", 0, 0, 0, 0.14, 0.6), _round(t, "sphere", 0, 0.4, 0, 0.48, 0.5)]


def _tower(t: Texture) -> Object:
    return [_round(t, "cylinder", 0, 0, 0, 0.26, 0.8), _round(t, "cone", 0, 0.8, 0, 0.34, 0.45)]


_SHAPES: dict[str, Callable[[Texture], Object]] = {
    "ball": lambda t: [_round(t, "sphere", 0, 0, 0, 0.5, 1.0)],
    "cube": lambda t: [_box(t, 0, 0, 0, 0.8, 0.8, 0.8)],
    "can": lambda t: [_round(t, "cylinder", 0, 0, 0, 0.36, 0.95)],
    "cone": lambda t: [_round(t, "cone", 0, 0, 0, 0.48, 1.05)],
    "plate": lambda t: [_round(t, "cylinder", 0, 0, 0, 0.65, 0.12)],
    "chair": _chair,
    "table": _table,
    "snowman": _snowman,
    "dumbbell": _dumbbell,
    "stairs": _stairs,
    "arch": _arch,
    "mushroom": _mushroom,
    "tower": _tower,
}


def _two_colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Two random colours that differ in hue and brightness, so that the pattern shows in grey."""
    hue = rng.uniform(0, 6)
    dark, light = _hue(hue, 0.55), _hue(hue + rng.uniform(1.5, 4.5), 0.95)
    light = tuple(0.45 + 0.55 * c for c in light)  # type: ignore[assignment]
    return (dark, light) if rng.random() < 0.5 else (light, dark)


def _hue(hue: float, bright: float) -> Colour:
    r, g, b = bright * np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0.15, 1)
    return float(r), float(g), float(b)
