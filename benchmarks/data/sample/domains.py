"""The domains of Office: pictures of the same classes of objects in different styles."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.data.sample import chance, objects
from benchmarks.data.sample.chance import choose
from benchmarks.data.sample.photo import photograph, smooth_noise
from benchmarks.data.sample.render import (
    Camera,
    Floats,
    Light,
    Picture,
    Shape,
    Solid,
    place,
    render,
)
from benchmarks.data.sample.textures import Texture

_GROUND = 1  # the label of everything but the object
_CLUTTER: tuple[Shape, ...] = ("box", "cylinder")


def picture_of(domain: str, name: str, rng: np.random.Generator, height: int, width: int) -> Floats:
    """Renders an object of class `name` in the style of a domain, [H, W, 3] in [0, 1]."""
    return _STYLES[domain](name, rng, height, width)


def _view(
    name: str, rng: np.random.Generator, height: int, width: int, surroundings: list[Solid]
) -> Picture:
    """Renders the object, seen from a random side."""
    thing = place(objects.make(name, rng), (0, 0, 0), rng.uniform(0, 2 * np.pi))
    distance, pitch = rng.uniform(2.0, 2.6), rng.uniform(-0.55, -0.2)
    aim = np.array([rng.uniform(-0.12, 0.12), 0.45, 0])
    position = aim + distance * np.array([0, -np.sin(pitch), np.cos(pitch)])
    camera = Camera(tuple(position), 0.0, pitch, 1.15)
    sun = (rng.uniform(-0.8, 0.8), 1.0, rng.uniform(0.3, 1.0))
    light = Light(rng.uniform(0.5, 0.65), rng.uniform(0.4, 0.6), sun, True)
    return render([*thing, *surroundings], camera, light, height, width)


def _room(rng: np.random.Generator) -> list[Solid]:
    """A desk in front of a wall, with other things on it."""
    wood = Texture(chance.wood(rng), "planks", chance.dark(chance.wood(rng)), 0.7)
    wall = Texture(chance.light(chance.any_colour(rng)), rough=0.05)
    solids = [
        Solid("box", (0, -0.05, 0), (3, 0.05, 1.6), _GROUND, wood),
        Solid("box", (0, 0, -1.7), (9, 5, 0.05), _GROUND, wall),
    ]
    for side in (-1, 1):
        h = rng.uniform(0.15, 0.55)
        spot = (side * rng.uniform(0.95, 1.4), h, rng.uniform(-1.2, -0.7))
        shape = choose(rng, _CLUTTER)
        clutter = Texture(chance.any_colour(rng), rough=0.1)
        half = (rng.uniform(0.1, 0.3), h, rng.uniform(0.1, 0.25))
        solids.append(Solid(shape, spot, half, _GROUND, clutter, rng.uniform(0, 3)))
    return solids


def _product(name: str, rng: np.random.Generator, height: int, width: int) -> Floats:
    """A picture as in a shop: on a white background, with a soft shadow."""
    paper = [Solid("box", (0, -0.05, 0), (20, 0.05, 20), _GROUND, Texture((1, 1, 1), rough=0))]
    picture = _view(name, rng, height, width, paper)
    ground = (picture.label == _GROUND)[..., None]
    light = np.where(ground, 0.8 + 0.2 * np.minimum(1, picture.light), picture.light)
    picture = picture._replace(light=light.astype(np.float32))
    return photograph(picture, rng, background=np.ones((height, width, 3), np.float32), noise=0.003)


def _photo(name: str, rng: np.random.Generator, height: int, width: int) -> Floats:
    """A picture of a good camera, on a desk."""
    return photograph(_view(name, rng, height, width, _room(rng)), rng, noise=0.008)


def _webcam(name: str, rng: np.random.Generator, height: int, width: int) -> Floats:
    """A picture of a poor camera: coarse, noisy, pale and tinted."""
    small_height, small_width = max(2, height * 2 // 5), max(2, width * 2 // 5)
    picture = _view(name, rng, small_height, small_width, _room(rng))
    image = photograph(picture, rng, noise=0.05)
    image = 0.25 + 0.55 * image * np.array([0.85, 0.97, 1.12], np.float32)
    image *= 1 - 0.25 * smooth_noise(rng, small_height, small_width, 2)[..., None]
    return _from_pil(_to_pil(image).resize((width, height), Image.Resampling.BILINEAR))


def _clip_art(name: str, rng: np.random.Generator, height: int, width: int) -> Floats:
    """A picture in flat colours with black outlines, on white or on one colour."""
    picture = _view(name, rng, height, width, [])
    shade = 0.72 + 0.14 * np.digitize(picture.light.mean(-1, keepdims=True), [0.6, 0.95])
    image = np.clip(picture.colour * 1.1, 0, 1) * shade
    back = np.ones(3) if rng.random() < 0.6 else np.array(chance.light(chance.any_colour(rng)))
    nothing = picture.solid < 0
    image = np.where(nothing[..., None], back, image)
    image[_outline(picture, max(1, height // 100))] = 0.05
    return image.astype(np.float32)


def _art(name: str, rng: np.random.Generator, height: int, width: int) -> Floats:
    """A pencil drawing on paper or a painting in blots of colour, with equal probability."""
    if rng.random() < 0.5:
        picture = _view(name, rng, height, width, [])
        tone = np.where(picture.solid < 0, 1.0, (picture.colour * picture.light).mean(-1))
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        hatch = np.sin((x + y) * 2.2 * 100 / max(height, 100)) > 1.6 * tone - 0.45
        grey = np.where(picture.solid < 0, 1.0, 0.55 + 0.4 * tone) - 0.22 * (
            hatch & (picture.solid >= 0)
        )
        grey[_outline(picture, 1)] = 0.2
        paper = np.array([0.96, 0.92, 0.82]) * (
            1 - 0.08 * smooth_noise(rng, height, width, 40)[..., None]
        )
        return np.clip(grey[..., None] * paper, 0, 1).astype(np.float32)
    image = photograph(_view(name, rng, height, width, _room(rng)), rng, noise=0.02)
    size = max(3, height // 32) | 1
    painting = (
        _to_pil(image)
        .quantize(16, dither=Image.Dither.NONE)
        .convert("RGB")
        .filter(ImageFilter.ModeFilter(size))
    )
    canvas = 1 + 0.1 * (np.indices((height, width)).sum(0) % 4 < 2) - 0.05
    return np.clip(_from_pil(painting) * canvas[..., None], 0, 1).astype(np.float32)


def _outline(picture: Picture, thickness: int) -> NDArray[np.bool_]:
    """A mask of the borders between solids and the edges of their surfaces."""
    height, width = picture.solid.shape
    edge = np.zeros((height, width), bool)
    for axis in (0, 1):
        jump = np.diff(picture.solid, axis=axis) != 0
        jump |= np.abs(np.diff(picture.normal, axis=axis)).sum(-1) > 0.8
        before, after = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        before[axis], after[axis] = (1, 0), (0, 1)
        edge |= np.pad(jump, before)
        if thickness > 1:
            edge |= np.pad(jump, after)
    return edge


def _to_pil(image: Floats) -> Image.Image:
    return Image.fromarray(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8))


def _from_pil(image: Image.Image) -> Floats:
    return np.asarray(image, np.float32) / 255


_STYLES: dict[str, Callable[[str, np.random.Generator, int, int], Floats]] = {
    "amazon": _product,
    "dslr": _photo,
    "webcam": _webcam,
    "Art": _art,
    "Clipart": _clip_art,
    "Product": _product,
    "Real_World": _photo,
}
