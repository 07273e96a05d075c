"""Makes a rendered picture look like a photograph."""

import numpy as np

from benchmarks.data.sample.render import Floats, Picture, blur


def photograph(
    picture: Picture,
    rng: np.random.Generator,
    *,
    background: Floats | None = None,
    noise: float = 0.015,
) -> Floats:
    """Multiplies surfaces by their light and adds blur and noise: [H, W, 3] in [0, 1].

    Args:
      picture: the rendered picture.
      rng: generator of the noise and the exposure.
      background: [H, W, 3], shown where there is no surface.
      noise: standard deviation of the noise.
    """
    image: Floats = picture.colour * picture.light * rng.uniform(0.9, 1.1)
    if background is not None:
        image = np.where((picture.solid < 0)[..., None], background, image)
    image = blur(np.clip(image, 0, 1)) ** 0.8
    image = image + noise * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 1).astype(np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Floats:
    """Random values in [0, 1], [H, W], interpolated from a grid of `cells` × `cells` cells."""
    grid = rng.random((cells + 2, cells + 2), np.float32)
    return _lerp(_lerp(grid, height, cells).T, width, cells).T


def _lerp(grid: Floats, size: int, cells: int) -> Floats:
    place = np.arange(size, dtype=np.float32) / size * cells
    first = place.astype(int)
    share = (place - first)[:, None]
    return (1 - share) * grid[first] + share * grid[first + 1]
