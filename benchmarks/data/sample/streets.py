"""Streets as sample data for Cityscapes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.sample import chance
from benchmarks.data.sample.photo import photograph, smooth_noise
from benchmarks.data.sample.render import (
    Camera,
    Floats,
    Light,
    Picture,
    Solid,
    place,
    render,
)
from benchmarks.data.sample.textures import Texture

FLAT, CONSTRUCTION, OBJECT, NATURE, SKY, HUMAN, VEHICLE = range(7)
VOID = -1

_FOCAL = 1.1
"""The focal length of the official camera: 2,262 pixels at an image width of 2,048."""
_DISPARITY_AT_1M = 2262 * 0.22
"""Disparity in pixels of the official images at 1 m; the two cameras are 22 cm apart."""
_STEPS_PER_PIXEL = 256
"""The official 16-bit files contain 256 × disparity + 1, or 0 where there is none."""
_FAR = 180.0
"""Distance in metres over which haze hides a share 1 - 1/e of the light."""

# The bonnet of the car with the camera, relative to the camera; it has no class, as in Cityscapes.
_BONNET = [Solid("sphere", (0, -0.62, -1.7), (1.0, 0.34, 0.9), VOID, Texture((0.16, 0.17, 0.19)))]


def street(rng: np.random.Generator, height: int, width: int) -> dict[str, NDArray[Any]]:
    """Renders one sample with all fields of Cityscapes; depth is the 16-bit disparity / 65,535."""
    solids, camera, light = scene(rng)
    picture = render(solids, camera, light, height, width)
    nothing = picture.solid < 0
    label = np.where(nothing, SKY, picture.label)
    stored = np.zeros_like(picture.depth)
    measured = ~(nothing | _missing(picture, rng))
    metres = picture.depth[measured]
    stored[measured] = np.round(_STEPS_PER_PIXEL * _DISPARITY_AT_1M / metres + 1)
    return {
        "image": photograph(_haze(picture), rng, background=_sky(rng, height, width)),
        "label": label.astype(np.float32),
        "depth": (np.minimum(stored, 65535) / 65535)[..., None].astype(np.float32),
    }


def scene(rng: np.random.Generator) -> tuple[list[Solid], Camera, Light]:
    """A random road between houses, with cars, people, trees and signs, seen from a car."""
    half_road = rng.uniform(4.0, 5.5)
    position = (half_road * 0.3, 1.25, 0.0)
    solids = [*_ground(rng, half_road), *place(_BONNET, position)]
    for side in (-1, 1):
        solids += _houses(rng, side, half_road + rng.uniform(3.0, 5.0))
        solids += _pavement(rng, side, half_road)
        solids += _parked_cars(rng, side, half_road)
    for _ in range(rng.integers(1, 4)):
        lane = rng.choice([-1, 1])
        solids += place(
            _car(rng), (lane * half_road * 0.35, 0, -rng.uniform(9, 50)), np.pi * (lane < 0)
        )
    if rng.random() < 0.4:  # someone crosses
        solids += place(_person(rng), (rng.uniform(-3, 3), 0, -rng.uniform(9, 16)), np.pi / 2)
    camera = Camera(position, rng.uniform(-0.06, 0.1), rng.uniform(-0.05, 0), _FOCAL)
    sun = (rng.uniform(-0.7, 0.7), rng.uniform(0.6, 1.0), rng.uniform(0.1, 0.6))
    light = Light(rng.uniform(0.45, 0.6), rng.uniform(0.3, 0.6), sun, True, (1.0, 0.95, 0.85))
    return solids, camera, light


def _box(label: int, texture: Texture, x, y, z, w, h, d) -> Solid:
    """A box of width w, height h and depth d in metres; y is its bottom."""
    return Solid("box", (x, y + h / 2, z), (w / 2, h / 2, d / 2), label, texture)


def _ground(rng: np.random.Generator, half_road: float) -> list[Solid]:
    asphalt = Texture(chance.colour(np.full(3, rng.uniform(0.3, 0.42))), rough=0.06)
    paint = Texture((0.85, 0.85, 0.82))
    verge = Texture(chance.colour(np.full(3, 0.5)), rough=0.08)
    solids = [
        _box(FLAT, asphalt, 0, -1, -90, 2 * half_road, 1, 400),
        _box(FLAT, verge, 0, -1.05, -90, 200, 1, 400),
    ]
    # The dashes on the road are nearly flat, but must lie above it to be visible.
    solids += [_box(FLAT, paint, 0, 0, -z, 0.15, 0.004, 3) for z in range(4, 70, 8)]
    return solids


def _pavement(rng: np.random.Generator, side: int, half_road: float) -> list[Solid]:
    stones = Texture((0.58, 0.56, 0.54), "checks", (0.53, 0.52, 0.5), 1.2)
    solids = [_box(FLAT, stones, side * (half_road + 3), 0, -90, 6, 0.14, 400)]
    z = rng.uniform(6, 12)
    while z < 80:
        x = side * (half_road + rng.uniform(0.6, 1.4))
        kind = rng.choice(
            ["tree", "lamp", "sign", "nothing", "bush"], p=[0.3, 0.2, 0.25, 0.1, 0.15]
        )
        if kind != "nothing":
            maker = {"tree": _tree, "lamp": _lamp, "sign": _sign, "bush": _bush}[str(kind)]
            solids += place(maker(rng), (x, 0.14, -z), np.pi * (side > 0))
        if rng.random() < 0.45:
            walk = side * (half_road + rng.uniform(1.6, 2.6))
            place_z = -z - rng.uniform(0, 4)
            solids += place(_person(rng), (walk, 0.14, place_z), rng.uniform(-0.5, 0.5))
        z += rng.uniform(4, 10)
    return solids


def _houses(rng: np.random.Generator, side: int, front: float) -> list[Solid]:
    solids, z = [], rng.uniform(-8, 0)
    while z < 110:
        length, tall = rng.uniform(9, 18), rng.uniform(7, 17)
        if rng.random() < 0.12:  # a gap with trees
            for dz in (2, 6):
                solids += place(_tree(rng), (side * (front + 2), 0, -z - dz), scale=1.3)
            z += 9
            continue
        wall = chance.light(chance.colour(np.array(chance.any_colour(rng)) * [1, 0.92, 0.85]))
        panes = Texture(wall, "panes", (0.22, 0.27, 0.33), rng.uniform(2.4, 3.2), 0.04)
        depth = 12.0
        x = side * (front + depth / 2)
        solids.append(_box(CONSTRUCTION, panes, x, 0, -z - length / 2, depth, tall, length - 0.05))
        roof = Texture((0.45, 0.25, 0.2), rough=0.1)
        solids.append(
            _box(CONSTRUCTION, roof, x, tall, -z - length / 2, depth + 0.5, 0.5, length - 0.05)
        )
        z += length
    # A house at the end of the street.
    end = Texture(chance.light(chance.any_colour(rng)), "panes", (0.25, 0.3, 0.35), 3.0)
    solids.append(_box(CONSTRUCTION, end, side * 18, 0, -125, 30, rng.uniform(8, 16), 8))
    return solids


def _parked_cars(rng: np.random.Generator, side: int, half_road: float) -> list[Solid]:
    solids, z = [], rng.uniform(4, 12)
    while z < 60:
        if rng.random() < 0.55:
            x = side * (half_road - 1.05)
            solids += place(_car(rng), (x, 0, -z - 2.2), np.pi * (side < 0))
        z += rng.uniform(5.2, 9)
    return solids


def _car(rng: np.random.Generator) -> list[Solid]:
    """A car that points along -z."""
    paint = Texture(
        chance.any_colour(rng)
        if rng.random() < 0.6
        else chance.colour(np.full(3, rng.uniform(0.1, 0.85))),
        rough=0.02,
    )
    glass, rubber = Texture((0.12, 0.15, 0.18)), Texture((0.08, 0.08, 0.08))
    red, white = Texture((0.75, 0.1, 0.08)), Texture((0.95, 0.95, 0.85))
    van = rng.random() < 0.2
    top, cabin = (1.9, 3.9) if van else (1.45, 2.3)
    solids = [
        _box(VEHICLE, paint, 0, 0.3, 0, 1.75, 0.6, 4.3),
        _box(VEHICLE, glass, 0, 0.88, 0.25, 1.55, top - 0.95, cabin),
        _box(VEHICLE, paint, 0, top - 0.1, 0.25, 1.5, 0.08, cabin - 0.15),
        _box(VEHICLE, Texture((0.9, 0.9, 0.9)), 0, 0.5, 2.15, 0.5, 0.12, 0.03),
    ]
    for s in (-1, 1):
        solids.append(_box(VEHICLE, red, s * 0.7, 0.62, 2.14, 0.28, 0.16, 0.05))
        solids.append(_box(VEHICLE, white, s * 0.65, 0.58, -2.14, 0.3, 0.16, 0.05))
        for z in (-1.35, 1.35):
            wheel = ((s * 0.8, 0.33, z), (0.13, 0.33, 0.33))
            solids.append(Solid("sphere", *wheel, VEHICLE, rubber))
    return solids


def _person(rng: np.random.Generator) -> list[Solid]:
    coat, trousers = (
        Texture(chance.any_colour(rng), rough=0.1),
        Texture(chance.any_colour(rng), rough=0.1),
    )
    skin = Texture(chance.colour(np.array([0.9, 0.7, 0.58]) * rng.uniform(0.45, 1.0)))
    stride = rng.uniform(0.05, 0.22)
    solids = [
        Solid("sphere", (0, 1.62, 0), (0.11, 0.13, 0.12), HUMAN, skin),
        Solid("sphere", (0, 1.16, 0), (0.22, 0.36, 0.15), HUMAN, coat),
    ]
    for s in (-1, 1):
        leg = ((s * 0.09, 0.43, s * stride), (0.085, 0.43, 0.1))
        arm = ((s * 0.25, 1.08, -s * stride), (0.06, 0.32, 0.07))
        solids.append(Solid("cylinder", *leg, HUMAN, trousers))
        solids.append(Solid("sphere", *arm, HUMAN, coat))
    return place(solids, (0, 0, 0), scale=rng.uniform(0.85, 1.08))


def _tree(rng: np.random.Generator) -> list[Solid]:
    green = np.array([0.25, 0.42, 0.15]) * rng.uniform(0.7, 1.3)
    leaves = Texture(chance.colour(green), "cloth", chance.light(chance.colour(green)), 0.6, 0.35)
    bark = Texture((0.35, 0.27, 0.2), rough=0.2)
    tall = rng.uniform(2.2, 3.2)
    solids = [Solid("cylinder", (0, tall / 2, 0), (0.16, tall / 2, 0.16), NATURE, bark)]
    for _ in range(6):
        x, y, z = rng.uniform(-0.9, 0.9), tall + rng.uniform(0, 2.0), rng.uniform(-0.9, 0.9)
        r = rng.uniform(0.8, 1.35)
        solids.append(Solid("sphere", (x, y, z), (r, 0.85 * r, r), NATURE, leaves))
    return solids


def _bush(rng: np.random.Generator) -> list[Solid]:
    leaves = Texture(chance.colour(np.array([0.22, 0.4, 0.14]) * rng.uniform(0.7, 1.3)), rough=0.35)
    return [
        Solid("sphere", (0, 0.45, dz), (0.55, 0.6, 0.6), NATURE, leaves) for dz in (-0.6, 0.0, 0.6)
    ]


def _lamp(rng: np.random.Generator) -> list[Solid]:
    """A street lamp with an arm towards +x, over the road."""
    grey, tall = Texture((0.4, 0.42, 0.43)), rng.uniform(4.5, 6.0)
    return [
        Solid("cylinder", (0, tall / 2, 0), (0.08, tall / 2, 0.08), OBJECT, grey),
        _box(OBJECT, grey, 0.7, tall - 0.08, 0, 1.4, 0.08, 0.08),
        _box(OBJECT, Texture((0.95, 0.95, 0.8)), 1.4, tall - 0.16, 0, 0.5, 0.12, 0.2),
    ]


def _sign(rng: np.random.Generator) -> list[Solid]:
    """A round or square sign or a traffic light, facing the camera."""
    pole = Solid("cylinder", (0, 1.3, 0), (0.05, 1.3, 0.05), OBJECT, Texture((0.5, 0.5, 0.52)))
    if rng.random() < 0.4:
        case = _box(OBJECT, Texture((0.1, 0.12, 0.1)), 0, 2.4, 0, 0.3, 0.9, 0.25)
        lit = rng.integers(3)
        lamps = [
            Solid(
                "sphere",
                (0, 3.15 - 0.3 * k, s * 0.13),
                (0.09, 0.09, 0.03),
                OBJECT,
                Texture(chance.colour(np.array(c) * (1.0 if k == lit else 0.25))),
            )
            for k, c in enumerate([(0.9, 0.1, 0.1), (0.95, 0.75, 0.1), (0.1, 0.8, 0.3)])
            for s in (-1, 1)
        ]
        return [pole, case, *lamps]
    red, white = Texture((0.8, 0.1, 0.1)), Texture((0.95, 0.95, 0.95))
    if rng.random() < 0.5:
        plates = [(0.36, red, 0.02), (0.26, white, 0.03)]
        return [
            pole,
            *(Solid("sphere", (0, 2.6, 0), (r, r, d), OBJECT, t) for r, t, d in plates),
        ]
    blue = Texture((0.1, 0.25, 0.65))
    return [
        pole,
        _box(OBJECT, white, 0, 2.25, 0, 0.66, 0.66, 0.04),
        _box(OBJECT, blue, 0, 2.29, 0, 0.58, 0.58, 0.06),
    ]


def _haze(picture: Picture) -> Picture:
    """Adds haze, which lets distant things fade into the sky."""
    share = np.exp(-picture.depth / _FAR)[..., None]
    haze = np.array([0.75, 0.8, 0.86], np.float32)
    colour = picture.colour * picture.light * share + haze * (1 - share)
    return picture._replace(colour=colour, light=np.ones_like(picture.light))


def _sky(rng: np.random.Generator, height: int, width: int) -> Floats:
    clouds = 0.6 * smooth_noise(rng, height, width, 5) + 0.4 * smooth_noise(rng, height, width, 13)
    share = (np.clip(clouds + rng.uniform(-0.2, 0.3), 0, 1))[..., None]
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    blue = np.array([0.45, 0.62, 0.85]) * (1 - down) + np.array([0.75, 0.83, 0.9]) * down
    return (blue * (1 - share) + np.array([0.9, 0.91, 0.93]) * share).astype(np.float32)


def _missing(picture: Picture, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask of pixels without disparity: random patches, the left border and the bonnet."""
    height, width = picture.depth.shape
    missing = smooth_noise(rng, height, width, cells=14) > 0.88
    missing[:, : max(1, width // 32)] = True
    return missing | ((picture.label == VOID) & (picture.solid >= 0))
