"""A small ray caster: pictures of simple solids with exact depth, normals and classes.

World coordinates are in metres with y up.  Camera coordinates have x to the right, y up and z
towards the viewer, so that every visible surface's normal points to the viewer.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.data.sample.textures import Texture, paint

Floats = NDArray[np.floating]
Shape = Literal["box", "sphere", "cylinder", "cone"]
Window = tuple[slice, slice]

NOTHING = -1
_NEAR = 1e-3
# Replaces zeros in divisions: a ray parallel to a face meets it very far away.
_PARALLEL = 1e-9
_SHADOW_STEP = 2


class Solid(NamedTuple):
    """A box, sphere, cylinder or cone; `half` is half of its size along each axis."""

    shape: Shape
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    label: int
    texture: Texture
    yaw: float = 0.0
    """rotation about the vertical axis in radians"""


class Camera(NamedTuple):
    """The position, direction and focal length of the camera."""

    position: tuple[float, float, float]
    yaw: float
    """horizontal angle in radians: 0 looks along -z of the world, positive to the left"""
    pitch: float
    """vertical angle in radians: positive looks up"""
    focal: float
    """focal length relative to the width of the image"""


class Light(NamedTuple):
    """Ambient light, and the sun or a lamp."""

    ambient: float
    """strength of the ambient light"""
    strength: float
    """strength of the sun or lamp"""
    source: tuple[float, float, float]
    """position of the lamp, or direction to the sun"""
    is_sun: bool
    """whether the source is the sun"""
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """colour of the sun or lamp"""


class Picture(NamedTuple):
    """What the camera sees in each pixel, as arrays [H, W]."""

    depth: Floats
    """depth in metres along the axis of the camera; 0 where there is no solid"""
    normal: Floats
    """[H, W, 3] unit vectors in camera coordinates; 0 where there is no solid"""
    label: NDArray[np.int32]
    """label of the solid; -1 where there is none"""
    solid: NDArray[np.int32]
    """index of the solid; -1 where there is none"""
    colour: Floats
    """[H, W, 3] colour of the surface without light"""
    light: Floats
    """[H, W, 3] light that falls on the surface; 1 where there is no solid"""


def place(
    parts: Sequence[Solid], position: ArrayLike, yaw: float = 0.0, scale: float = 1.0
) -> list[Solid]:
    """Scales, rotates and moves several solids together."""
    turn = _turn(yaw)
    position = np.asarray(position, float)
    return [
        part._replace(
            centre=tuple(turn @ (scale * np.array(part.centre)) + position),
            half=tuple(scale * np.array(part.half)),
            yaw=part.yaw + yaw,
        )
        for part in parts
    ]


def render(
    solids: Sequence[Solid], camera: Camera, light: Light, height: int, width: int
) -> Picture:
    """Renders a picture of the solids, with shadows."""
    rays, rotation = _rays(camera, height, width)
    origin = np.asarray(camera.position, np.float32)
    depth = np.full((height, width), np.inf, np.float32)
    index = np.full((height, width), NOTHING, np.int32)
    for i, solid in enumerate(solids):
        window = _window(solid, camera, rotation, height, width)
        if window is None:
            continue
        distance = _distance(solid, origin, rays[window])
        closer = distance < depth[window]
        depth[window][closer] = distance[closer]
        index[window][closer] = i

    label = np.full((height, width), -1, np.int32)
    normal = np.zeros((height, width, 3), np.float32)
    colour = np.zeros((height, width, 3), np.float32)
    seen = index != NOTHING
    points = origin + np.where(seen, depth, 0)[..., None] * rays
    for i in np.unique(index[seen]):
        solid, mask = solids[i], index == i
        local = _to_local(solid, points[mask] - np.asarray(solid.centre, np.float32))
        normal[mask] = _normal(solid, local)
        colour[mask] = paint(solid.texture, local * np.asarray(solid.half, np.float32))
        label[mask] = solid.label
    shine = _light(solids, light, points, normal, seen)
    return Picture(np.where(seen, depth, 0), normal @ rotation, label, index, colour, shine)


def _light(
    solids: Sequence[Solid], light: Light, points: Floats, normal: Floats, seen: NDArray[np.bool_]
) -> Floats:
    """Light by Lambert's law; half the resolution makes shadows fast to compute and soft."""
    source = np.asarray(light.source, np.float32)
    towards = np.broadcast_to(source, points.shape) if light.is_sun else source - points
    length = np.sqrt(_dot(towards, towards))[..., None]
    cosine = np.maximum(0, _dot(normal, towards)[..., None] / length)
    coarse = slice(None, None, _SHADOW_STEP)
    starts = (points + 1e-2 * normal)[coarse, coarse]
    directions = towards[coarse, coarse]
    free = np.ones(starts.shape[:2], np.float32)
    for solid in solids:
        # A lamp is at distance 1 in units of `directions`; the sun is at infinity.
        distance = _distance(solid, starts, directions)
        free[distance < (np.inf if light.is_sun else 0.98)] = 0
    free = free.repeat(_SHADOW_STEP, 0).repeat(_SHADOW_STEP, 1)[: seen.shape[0], : seen.shape[1]]
    free = blur(blur(free))[..., None]
    direct = light.strength * cosine * free
    if not light.is_sun:
        direct = direct * 9 / (4 + length**2)
    # More ambient light from above, so that faces without direct light differ.
    sky = light.ambient * (0.85 + 0.15 * normal[..., 1:2])
    shine = sky + direct * np.asarray(light.colour, np.float32)
    return np.where(seen[..., None], shine, 1).astype(np.float32)


def blur(image: Floats) -> Floats:
    """Averages neighbouring pixels with weights 1, 2, 1 along both axes of [H, W, ...]."""
    for axis in (0, 1):
        padding = [(1, 1) if a == axis else (0, 0) for a in range(image.ndim)]
        padded = np.pad(image, padding, mode="edge")
        n = image.shape[axis]
        before, after = (padded.take(range(k, n + k), axis) for k in (0, 2))
        image = (before + 2 * image + after) / 4
    return image


def _rays(camera: Camera, height: int, width: int) -> tuple[Floats, Floats]:
    """Rays [H, W, 3] in world coordinates with depth 1, and the camera-to-world rotation [3, 3]."""
    focal = camera.focal * width
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = -(np.arange(height) + 0.5 - height / 2) / focal
    rays = np.stack(np.broadcast_arrays(x[None], y[:, None], -1.0), axis=-1)
    c, s = np.cos(camera.pitch), np.sin(camera.pitch)
    rotation = _turn(camera.yaw) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return (rays @ rotation.T).astype(np.float32), rotation.astype(np.float32)


def _turn(yaw: float) -> NDArray[np.float64]:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _window(
    solid: Solid, camera: Camera, rotation: Floats, height: int, width: int
) -> Window | None:
    """The part of the image that a solid can cover; None if it is out of sight."""
    signs = np.stack(np.meshgrid(*[[-1, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    corners = (signs * np.asarray(solid.half)) @ _turn(solid.yaw).T + np.asarray(solid.centre)
    seen = (corners - np.asarray(camera.position)) @ rotation
    if (seen[:, 2] > -_NEAR).all():
        return None
    if (seen[:, 2] > -0.05).any():  # close to the camera: it may cover the whole image
        return slice(0, height), slice(0, width)
    focal = camera.focal * width
    columns = width / 2 + focal * seen[:, 0] / -seen[:, 2]
    rows = height / 2 - focal * seen[:, 1] / -seen[:, 2]
    spans = []
    for values, size in ((rows, height), (columns, width)):
        first, end = int(max(0, np.floor(values.min()))), int(min(size, np.ceil(values.max()) + 1))
        if first >= end:
            return None
        spans.append(slice(first, end))
    return spans[0], spans[1]


def _to_local(solid: Solid, vectors: Floats) -> Floats:
    """Converts world vectors to coordinates in which the solid spans -1 to 1."""
    turn, half = _turn(solid.yaw).astype(np.float32), np.asarray(solid.half, np.float32)
    local: Floats = (vectors @ turn) / half
    return local


def _distance(solid: Solid, origin: Floats, rays: Floats) -> Floats:
    """The distance to a solid along each ray, in units of the ray; infinite if it misses."""
    o = _to_local(solid, origin - np.asarray(solid.centre, np.float32))
    d = _to_local(solid, rays)
    if solid.shape in ("box", "sphere"):
        # A ray that starts inside of the solid counts as a miss.
        near = (
            _slab(o, d)
            if solid.shape == "box"
            else _roots(_dot(d, d), _dot(o, d), _dot(o, o) - 1)[0]
        )
        return np.where(near > _NEAR, near, np.inf)
    # The radius is a - b·y: 1 for a cylinder; for a cone it falls from 1 to 0.
    a, b = (1.0, 0.0) if solid.shape == "cylinder" else (0.5, 0.5)
    radius = a - b * o[..., 1]
    near, far = _roots(
        d[..., 0] ** 2 + d[..., 2] ** 2 - (b * d[..., 1]) ** 2,
        o[..., 0] * d[..., 0] + o[..., 2] * d[..., 2] + b * radius * d[..., 1],
        o[..., 0] ** 2 + o[..., 2] ** 2 - radius**2,
    )
    best = np.full(near.shape, np.inf, np.float32)
    for t in (near, far):
        with np.errstate(invalid="ignore"):
            hit = (np.abs(o[..., 1] + t * d[..., 1]) <= 1) & (t > _NEAR)
        best = np.where(hit, np.minimum(best, t), best)
    for y in (-1.0, 1.0):
        t = (y - o[..., 1]) / _not_zero(d[..., 1])
        x, z = o[..., 0] + t * d[..., 0], o[..., 2] + t * d[..., 2]
        best = np.where(
            (x * x + z * z <= (a - b * y) ** 2) & (t > _NEAR), np.minimum(best, t), best
        )
    return best


def _slab(o: Floats, d: Floats) -> Floats:
    """The distance at which each ray enters the cube from -1 to 1."""
    inverse = 1 / _not_zero(d)
    first, second = (-1 - o) * inverse, (1 - o) * inverse
    # Comparing three arrays is several times faster than reducing an axis of length 3.
    low, high = np.minimum(first, second), np.maximum(first, second)
    near = np.maximum(np.maximum(low[..., 0], low[..., 1]), low[..., 2])
    far = np.minimum(np.minimum(high[..., 0], high[..., 1]), high[..., 2])
    return np.where(near <= far, near, np.inf)


def _roots(a: Floats, b: Floats, c: Floats) -> tuple[Floats, Floats]:
    """The roots of a t² + 2 b t + c = 0, ascending for a > 0; infinite where there are none."""
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0))
    a = _not_zero(a)
    hit = square >= 0
    return np.where(hit, (-b - root) / a, np.inf), np.where(hit, (-b + root) / a, np.inf)


def _dot(a: Floats, b: Floats) -> Floats:
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def _not_zero(x: Floats) -> Floats:
    return np.where(np.abs(x) < _PARALLEL, np.float32(_PARALLEL), x)


def _normal(solid: Solid, local: Floats) -> Floats:
    """Unit normals [N, 3] in world coordinates at surface points [N, 3] in local coordinates."""
    if solid.shape == "box":
        axis = np.abs(local).argmax(-1)[:, None]
        normal = np.zeros_like(local)
        np.put_along_axis(normal, axis, np.sign(np.take_along_axis(local, axis, -1)), -1)
    elif solid.shape == "sphere":
        normal = local.copy()
    else:
        a, b = (1.0, 0.0) if solid.shape == "cylinder" else (0.5, 0.5)
        y = local[:, 1]
        radius = np.hypot(local[:, 0], local[:, 2])
        # The point is closer to the cap than to the side.
        on_cap = 1 - np.abs(y) < np.abs(a - b * y - radius)
        normal = np.stack([local[:, 0], b * (a - b * y), local[:, 2]], -1)
        normal[on_cap] = np.stack([0 * y, np.sign(y), 0 * y], -1)[on_cap]
    # Scaling a surface scales its normals inversely.
    normal /= np.asarray(solid.half, np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return (normal @ _turn(solid.yaw).T).astype(np.float32)
