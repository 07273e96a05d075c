"""Furnished rooms as sample data for NYUv2."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.sample import chance
from benchmarks.data.sample import furniture as f
from benchmarks.data.sample.chance import choose
from benchmarks.data.sample.photo import photograph, smooth_noise
from benchmarks.data.sample.render import Camera, Light, Picture, Solid, place, render
from benchmarks.data.sample.textures import Pattern, Texture

_FOCAL = 0.81
"""The focal length of the Kinect: 519 pixels at an image width of 640."""
_THICK = 0.1
_ART: tuple[Pattern, ...] = ("checks", "stripes", "dots", "rings")


def room(rng: np.random.Generator, height: int, width: int) -> dict[str, NDArray[Any]]:
    """Renders one sample with all fields of NYUv2."""
    solids, camera, light = scene(rng)
    picture = render(solids, camera, light, height, width)
    missing = _missing(picture, solids, rng)
    seen = ~missing
    return {
        "image": photograph(picture, rng),
        "label": picture.label.astype(np.float32),
        "depth": (picture.depth * seen)[..., None],
        "normal": picture.normal * seen[..., None],
    }


def scene(rng: np.random.Generator) -> tuple[list[Solid], Camera, Light]:
    """A random room with large furniture, a table with chairs, and small objects."""
    w, h, d = rng.uniform(3.6, 5.5), rng.uniform(2.4, 2.8), rng.uniform(4.0, 6.0)
    solids = [*_shell(rng, w, h, d), *_on_the_wall(rng, w, h, d), *_along_the_walls(rng, w, d)]
    solids += _in_the_middle(rng, w, d)
    position = (rng.uniform(-0.25, 0.25) * w, rng.uniform(1.35, 1.7), d / 2 - 0.2)
    camera = Camera(position, rng.uniform(-0.35, 0.35), rng.uniform(-0.35, 0.0), _FOCAL)
    lamp = (rng.uniform(-0.2, 0.2) * w, h - 0.35, rng.uniform(-0.15, 0.3) * d)
    warm = rng.uniform(0.85, 1.0)
    light = Light(rng.uniform(0.35, 0.5), rng.uniform(0.6, 0.85), lamp, False, (1, warm**0.5, warm))
    return solids, camera, light


def _shell(rng: np.random.Generator, w: float, h: float, d: float) -> list[Solid]:
    """The floor, the ceiling and four walls."""
    wall = chance.light(chance.any_colour(rng)) if rng.random() < 0.7 else chance.any_colour(rng)
    floor = (
        Texture(chance.wood(rng), "planks", chance.dark(chance.wood(rng)), 0.25)
        if rng.random() < 0.6
        else Texture(chance.any_colour(rng), "checks", chance.light(chance.any_colour(rng)), 0.8)
    )
    paper = Texture(wall, "plain", rough=0.03)
    if rng.random() < 0.25:
        paper = Texture(wall, "stripes", chance.light(wall), 0.5, 0.03)
    t = _THICK
    return [
        Solid("box", (0, -t, 0), (w / 2 + 1, t, d / 2 + 1), f.FLOOR, floor),
        Solid(
            "box", (0, h + t, 0), (w / 2 + 1, t, d / 2 + 1), f.CEILING, Texture((0.93, 0.93, 0.9))
        ),
        *(Solid("box", (s * (w / 2 + t), h / 2, 0), (t, h, d), f.WALL, paper) for s in (-1, 1)),
        *(Solid("box", (0, h / 2, s * (d / 2 + t)), (w, h, t), f.WALL, paper) for s in (-1, 1)),
    ]


def _on_the_wall(rng: np.random.Generator, w: float, h: float, d: float) -> list[Solid]:
    """A picture, window, television or nothing on the back wall and on each side wall."""
    solids = []
    for wall in ("back", "left", "right"):
        kind = rng.choice(["picture", "window", "tv", "nothing"], p=[0.4, 0.3, 0.2, 0.1])
        if kind == "nothing":
            continue
        hw, hh, y = {
            "picture": (rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.35), 1.65),
            "window": (rng.uniform(0.5, 0.8), rng.uniform(0.45, 0.6), 1.6),
            "tv": (0.55, 0.32, 1.35),
        }[str(kind)]
        along = rng.uniform(-0.25, 0.25)
        if kind == "window":
            glass = Texture((0.75, 0.87, 1.0), rough=0.02)
            frame = Texture((0.97, 0.97, 0.97))
            parts = [
                Solid("box", (0, 0, 0), (hw + 0.06, hh + 0.06, 0.02), f.WINDOW, frame),
                *(
                    Solid("box", (s * hw / 2, 0, 0.01), (hw / 2 - 0.02, hh, 0.02), f.WINDOW, glass)
                    for s in (-1, 1)
                ),
            ]
        elif kind == "tv":
            parts = [
                Solid("box", (0, 0, 0), (hw, hh, 0.03), f.TV, Texture((0.1, 0.1, 0.1))),
                Solid(
                    "box",
                    (0, 0, 0.01),
                    (hw - 0.03, hh - 0.03, 0.03),
                    f.TV,
                    Texture((0.03, 0.04, 0.07)),
                ),
            ]
        else:
            art = Texture(
                chance.any_colour(rng),
                choose(rng, _ART),
                chance.any_colour(rng),
                0.25,
            )
            parts = [
                Solid("box", (0, 0, 0), (hw, hh, 0.02), f.PICTURE, Texture(chance.wood(rng))),
                Solid("box", (0, 0, 0.01), (hw - 0.05, hh - 0.05, 0.02), f.PICTURE, art),
            ]
        position, yaw = {
            "back": ((along * w, y, -d / 2 + 0.02), 0.0),
            "left": ((-w / 2 + 0.02, y, along * d - 0.1 * d), np.pi / 2),
            "right": ((w / 2 - 0.02, y, along * d - 0.1 * d), -np.pi / 2),
        }[wall]
        solids += place(parts, position, yaw)
    return solids


def _along_the_walls(rng: np.random.Generator, w: float, d: float) -> list[Solid]:
    """Large furniture with its back to a wall, and small objects on the lower pieces."""
    solids: list[Solid] = []
    makers = [f.bed, f.sofa, f.cupboard, f.bookshelf, f.table]
    order = rng.choice(len(makers), 4, replace=False)
    for maker, wall in zip(
        (makers[i] for i in order), ("left", "right", "back", "back2"), strict=True
    ):
        thing, size = maker(rng)
        gap = size.depth / 2 + 0.05
        position, yaw = {
            "left": ((-w / 2 + gap, 0, rng.uniform(-0.15, 0.1) * d), np.pi / 2),
            "right": ((w / 2 - gap, 0, rng.uniform(-0.15, 0.1) * d), -np.pi / 2),
            "back": ((-0.2 * w, 0, -d / 2 + gap), 0.0),
            "back2": ((0.27 * w, 0, -d / 2 + gap), 0.0),
        }[wall]
        if wall == "back2" and size.width > 0.42 * w:
            continue
        if size.height < 1.1 and maker in (f.cupboard, f.table):
            for x in (-0.25, 0.25):
                thing = thing + place(f.small_object(rng), (x * size.width, size.height, 0))
        solids += place(thing, position, yaw)
    return solids


def _in_the_middle(rng: np.random.Generator, w: float, d: float) -> list[Solid]:
    """A table with chairs around it, and small objects on the floor."""
    thing, size = f.table(rng)
    for x in (-0.3, 0.0, 0.3):
        if rng.random() < 0.7:
            thing = thing + place(f.small_object(rng), (x * size.width, size.height, 0), scale=0.9)
    for side in rng.choice(4, rng.integers(1, 4), replace=False):
        chair, _ = f.chair(rng)
        reach = (size.width if side % 2 else size.depth) / 2 + 0.2
        yaw = side * np.pi / 2
        # The half turn makes the chair face the table.
        away = (reach * np.sin(yaw), 0, reach * np.cos(yaw))
        thing = thing + place(chair, away, yaw + np.pi + rng.uniform(-0.3, 0.3))
    centre = (rng.uniform(-0.1, 0.1) * w, 0, rng.uniform(-0.08, 0.02) * d)
    solids = place(thing, centre, rng.uniform(-0.5, 0.5))
    for _ in range(2):
        spot = (rng.uniform(-0.35, 0.35) * w, 0, rng.uniform(0.1, 0.25) * d)
        solids += place(f.small_object(rng), spot, rng.uniform(0, 3))
    return solids


def _missing(picture: Picture, solids: list[Solid], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask of pixels without depth: the border, random patches, and much of glossy surfaces."""
    height, width = picture.depth.shape
    missing = smooth_noise(rng, height, width, cells=12) > 0.87
    glossy = np.isin(picture.label, (f.WINDOW, f.TV))
    missing |= glossy & (smooth_noise(rng, height, width, cells=6) > 0.3)
    border = max(1, height // 72)
    missing[:border] = missing[-border:] = True
    missing[:, :border] = missing[:, -border:] = True
    return missing
