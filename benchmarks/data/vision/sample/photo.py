"""From a rendered picture to what a camera would have taken."""

import numpy as np

from benchmarks.data.vision.sample.render import Floats, Picture, blur


def photograph(
    picture: Picture,
    rng: np.random.Generator,
    *,
    background: Floats | None = None,
    noise: float = 0.015,
) -> Floats:
    """Surfaces in their light, softly focused, with noise: [H, W, 3] in [0, 1].

    Args:
      picture: what was rendered.
      rng: of the noise and the exposure.
      background: [H, W, 3], seen where there is nothing.
      noise: standard deviation.
    """
    image: Floats = picture.colour * picture.light * rng.uniform(0.9, 1.1)
    if background is not None:
        image = np.where((picture.solid < 0)[..., None], background, image)
    image = blur(np.clip(image, 0, 1)) ** 0.8
    image = image + noise * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 1).astype(np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Floats:
    """Values between 0 and 1 [H, W] that change over a `cells`-th of the image."""
    grid = rng.random((cells + 2, cells + 2), np.float32)
    return _lerp(_lerp(grid, height, cells).T, width, cells).T


def _lerp(grid: Floats, size: int, cells: int) -> Floats:
    place = np.arange(size, dtype=np.float32) / size * cells
    first = place.astype(int)
    share = (place - first)[:, None]
    return (1 - share) * grid[first] + share * grid[first + 1]
