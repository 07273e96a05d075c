"""Bilinear resizing that maps corner pixels to corner pixels (PyTorch's `align_corners=True`)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def resize_align_corners(images: jax.Array, size: Sequence[int]) -> jax.Array:
    """Resizes `[B, H, W, C]` to `[B, *size, C]`.

    Output row i of h' lies at i (H-1)/(h'-1) of the H input rows, linearly between its two
    neighbours; columns likewise. `jax.image.resize` aligns the pixels' outer edges instead.

    Raises:
      ValueError: if an axis of `images` is missing, or a side is not positive.
    """
    if images.ndim != 4:
        raise ValueError(f"images: expected [B, H, W, C], found shape {images.shape}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: expected two positive integers, found {tuple(size)}")
    height, width = images.shape[1:3]
    dtype = images.dtype
    images = images.astype(jnp.promote_types(dtype, jnp.float32))
    # Matrix products instead of indexing, whose derivative would be a slow scatter. They use full
    # precision, as the fast modes of accelerators are not exact enough for depths.
    if size[0] != height:
        rows = jnp.asarray(_weights(height, size[0]), images.dtype)
        images = jnp.einsum("oh,bhwc->bowc", rows, images, precision=jax.lax.Precision.HIGHEST)
    if size[1] != width:
        columns = jnp.asarray(_weights(width, size[1]), images.dtype)
        images = jnp.einsum("ow,bhwc->bhoc", columns, images, precision=jax.lax.Precision.HIGHEST)
    return images.astype(dtype)


def _weights(source: int, target: int) -> np.ndarray:
    """The interpolation matrix `[target, source]`."""
    positions = np.arange(target) * ((source - 1) / max(target - 1, 1))
    distances = np.abs(positions[:, None] - np.arange(source)[None])
    return np.maximum(1 - distances, 0)
