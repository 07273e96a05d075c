"""Furniture made of a few solids; each piece stands on y = 0 at the origin and faces +z."""

from typing import NamedTuple

import numpy as np

from benchmarks.data.sample import chance
from benchmarks.data.sample.chance import choose
from benchmarks.data.sample.render import Solid
from benchmarks.data.sample.textures import Pattern, Texture

# The 13 classes of NYUv2 in their usual order. The pre-processed files do not name the classes; the
# names are inferred.
BED, BOOKS, CEILING, CHAIR, FLOOR, FURNITURE, OBJECTS, PICTURE, SOFA, TABLE, TV, WALL, WINDOW = (
    range(13)
)
VOID = -1

_BEDDING: tuple[Pattern, ...] = ("stripes", "checks", "plain")

Thing = list[Solid]


class Size(NamedTuple):
    """The width, height and depth of a thing in metres."""

    width: float
    height: float
    depth: float


def _box(label: int, texture: Texture, x, y, z, w, h, d) -> Solid:
    """A box of width w, height h and depth d in metres; y is its bottom."""
    return Solid("box", (x, y + h / 2, z), (w / 2, h / 2, d / 2), label, texture)


def _legs(label: int, texture: Texture, size: Size, height: float, thick: float) -> Thing:
    x, z = size.width / 2 - thick, size.depth / 2 - thick
    return [
        Solid("cylinder", (sx * x, height / 2, sz * z), (thick, height / 2, thick), label, texture)
        for sx in (-1, 1)
        for sz in (-1, 1)
    ]


def table(rng: np.random.Generator) -> tuple[Thing, Size]:
    """A table with four legs, or sometimes a round one with a single foot."""
    size = Size(rng.uniform(0.9, 1.6), rng.uniform(0.55, 0.75), rng.uniform(0.7, 0.95))
    wood = Texture(chance.wood(rng), "planks", chance.dark(chance.wood(rng)), 0.35)
    if rng.random() < 0.3:
        r = size.depth / 2
        top = Solid("cylinder", (0, size.height - 0.02, 0), (r, 0.02, r), TABLE, wood)
        foot = Solid(
            "cylinder", (0, size.height / 2, 0), (0.05, size.height / 2, 0.05), TABLE, wood
        )
        base = Solid("cylinder", (0, 0.02, 0), (r / 2, 0.02, r / 2), TABLE, wood)
        return [top, foot, base], Size(2 * r, size.height, 2 * r)
    top = _box(TABLE, wood, 0, size.height - 0.05, 0, size.width, 0.05, size.depth)
    return [top, *_legs(TABLE, wood, size, size.height - 0.05, 0.035)], size


def chair(rng: np.random.Generator) -> tuple[Thing, Size]:
    """A chair with four legs and a back."""
    size = Size(0.45, 0.9, 0.45)
    texture = Texture(chance.any_colour(rng), "cloth", rough=0.1)
    seat = _box(CHAIR, texture, 0, 0.43, 0, 0.45, 0.05, 0.45)
    back = _box(CHAIR, texture, 0, 0.48, -0.2, 0.45, 0.42, 0.04)
    return [seat, back, *_legs(CHAIR, Texture(chance.wood(rng)), size, 0.43, 0.025)], size


def sofa(rng: np.random.Generator) -> tuple[Thing, Size]:
    """A sofa with a back, two arms and cushions."""
    w = rng.uniform(1.4, 2.0)
    colour = chance.any_colour(rng)
    cloth, cushion = (
        Texture(colour, "cloth", rough=0.1),
        Texture(chance.light(colour), "cloth", rough=0.1),
    )
    parts = [
        _box(SOFA, cloth, 0, 0, 0, w, 0.3, 0.85),
        _box(SOFA, cloth, 0, 0.3, -0.33, w, 0.5, 0.2),
        *(_box(SOFA, cloth, s * (w / 2 - 0.1), 0.3, 0, 0.2, 0.28, 0.85) for s in (-1, 1)),
        *(
            _box(SOFA, cushion, s * (w / 4 - 0.05), 0.3, 0.1, w / 2 - 0.13, 0.13, 0.62)
            for s in (-1, 1)
        ),
    ]
    return parts, Size(w, 0.8, 0.85)


def bed(rng: np.random.Generator) -> tuple[Thing, Size]:
    """A bed with mattress, blanket, pillows and headboard; the head is at the back."""
    w, colour = rng.uniform(1.2, 1.8), chance.any_colour(rng)
    wood = Texture(chance.wood(rng), "planks", chance.dark(chance.wood(rng)), 0.4)
    cloth = Texture(colour, choose(rng, _BEDDING), chance.light(colour), 0.3)
    white = Texture((0.92, 0.92, 0.9))
    parts = [
        _box(BED, wood, 0, 0.05, 0, w, 0.25, 2.0),
        _box(BED, white, 0, 0.3, 0, w - 0.06, 0.2, 1.94),
        _box(BED, cloth, 0, 0.31, 0.3, w, 0.22, 1.4),
        _box(BED, wood, 0, 0, -1.0, w, 0.95, 0.06),
        *(
            Solid("sphere", (s * w / 4, 0.54, -0.7), (w / 4.6, 0.1, 0.22), BED, white)
            for s in (-1, 1)
        ),
    ]
    return parts, Size(w, 0.95, 2.0)


def cupboard(rng: np.random.Generator) -> tuple[Thing, Size]:
    """A closed cupboard with doors and knobs; things can stand on it."""
    size = Size(rng.uniform(0.7, 1.3), rng.uniform(0.7, 1.9), 0.45)
    wood = Texture(chance.wood(rng), "planks", chance.dark(chance.wood(rng)), 0.5)
    door = wood._replace(colour=chance.light(wood.colour))
    parts = [_box(FURNITURE, wood, 0, 0, 0, size.width, size.height, size.depth)]
    for s in (-1, 1):
        x = s * size.width / 4
        parts.append(
            _box(FURNITURE, door, x, 0.06, 0.23, size.width / 2 - 0.05, size.height - 0.12, 0.02)
        )
        knob = (0.02, 0.02, 0.02)
        metal = Texture((0.75, 0.75, 0.78))
        parts.append(Solid("sphere", (s * 0.05, size.height / 2, 0.25), knob, FURNITURE, metal))
    return parts, size


def bookshelf(rng: np.random.Generator) -> tuple[Thing, Size]:
    """An open bookshelf full of books."""
    size = Size(rng.uniform(0.8, 1.1), 1.75, 0.32)
    wood = Texture(chance.wood(rng), "planks", chance.dark(chance.wood(rng)), 0.5)
    parts = [_box(FURNITURE, wood, 0, 0, -0.14, size.width, size.height, 0.04)]
    for s in (-1, 1):
        parts.append(_box(FURNITURE, wood, s * size.width / 2, 0, 0, 0.03, size.height, size.depth))
    for y in np.linspace(0.05, size.height - 0.03, 5):
        parts.append(_box(FURNITURE, wood, 0, y, 0, size.width, 0.03, size.depth))
        if y > size.height - 0.1:
            break
        x = -size.width / 2 + 0.04
        while x < size.width / 2 - 0.12:
            thick = rng.uniform(0.05, 0.1)
            book = Texture(chance.any_colour(rng))
            height = rng.uniform(0.22, 0.34)
            parts.append(
                _box(BOOKS, book, x + thick / 2, y + 0.03, 0.02, thick - 0.006, height, 0.2)
            )
            x += thick + (rng.uniform(0.05, 0.2) if rng.random() < 0.15 else 0)
    return parts, size


def small_object(rng: np.random.Generator) -> Thing:
    """A lamp, vase, ball, box or stack of books."""
    kind = choose(rng, ("lamp", "vase", "ball", "box", "books", "void"))
    paint = Texture(chance.any_colour(rng), rough=0.08)
    if kind == "lamp":
        foot = Solid(
            "cylinder", (0, 0.15, 0), (0.02, 0.15, 0.02), OBJECTS, Texture((0.3, 0.3, 0.3))
        )
        shade = Solid("cone", (0, 0.4, 0), (0.16, 0.15, 0.16), OBJECTS, Texture((0.95, 0.9, 0.75)))
        return [foot, shade]
    if kind == "vase":
        body = Solid("sphere", (0, 0.12, 0), (0.09, 0.12, 0.09), OBJECTS, paint)
        neck = Solid("cylinder", (0, 0.26, 0), (0.04, 0.06, 0.04), OBJECTS, paint)
        return [body, neck]
    if kind == "ball":
        r = rng.uniform(0.08, 0.14)
        return [Solid("sphere", (0, r, 0), (r, r, r), OBJECTS, paint)]
    if kind == "books":
        sizes = [(0.22, 0.04, 0.3), (0.2, 0.05, 0.27), (0.18, 0.03, 0.25)]
        parts, y = [], 0.0
        for w, h, d in sizes:
            part = _box(BOOKS, Texture(chance.any_colour(rng)), 0, y, 0, w, h, d)
            parts.append(part._replace(yaw=rng.uniform(-0.3, 0.3)))
            y += h
        return parts
    # Real scenes contain objects without a label.
    label = VOID if kind == "void" else OBJECTS
    return [_box(label, paint, 0, 0, 0, rng.uniform(0.12, 0.25), rng.uniform(0.1, 0.25), 0.2)]
