"""Data augmentation on the device: random crops and flips.

It is off by default, as in the protocol of the benchmark. A batch is a dict as `DenseSource.batch`
gives it: `image` [B, H, W, 3], `label` [B, H, W], `depth` [B, H, W, 1] and, for NYUv2, `normal`
[B, H, W, 3].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SCALES = (1.0, 1.2, 1.5)
"""The image is cropped to its size divided by one of these, then enlarged to its full size."""

Batch = dict[str, jax.Array]


def augment(key: jax.Array, batch: Batch) -> Batch:
    """Crops, enlarges and flips each sample at random, independently of the others.

    Args:
      key: PRNG key; the same key gives the same result.
      batch: a dict of arrays as described at the top of this file.
    """
    keys = jax.random.split(key, len(batch["image"]))
    return jax.vmap(_augment_one)(keys, batch)


def _augment_one(key: jax.Array, sample: Batch) -> Batch:
    size_key, place_key, flip_key = jax.random.split(key, 3)
    which = jax.random.randint(size_key, (), 0, len(SCALES))
    place = jax.random.uniform(place_key, (2,))
    cropped = crop(sample, which, place)
    flipped = flip(cropped)
    yes = jax.random.bernoulli(flip_key)
    return {name: jnp.where(yes, flipped[name], cropped[name]) for name in sample}


def crop(sample: Batch, which: jax.Array, place: jax.Array) -> Batch:
    """Crops a sample (without batch axis) and enlarges the crop to the full size.

    Depth is divided by the scale, as a nearer object looks larger. Image and normals are
    interpolated linearly with aligned corners, and known normals get unit length again; label and
    depth come from the nearest pixel.

    Args:
      sample: arrays [H, W, ...].
      which: index into `SCALES`.
      place: [2] in [0, 1), position of the crop: 0 is the first possible row or column, 1 the last.
    """
    height, width = sample["label"].shape
    scale = jnp.asarray(SCALES, jnp.float32)[which]
    rows, columns = (
        _places(size, which, share) for size, share in zip((height, width), place, strict=True)
    )
    result = {
        "image": _interpolate(sample["image"], rows, columns),
        "label": sample["label"][rows.nearest[:, None], columns.nearest],
        "depth": sample["depth"][rows.nearest[:, None], columns.nearest] / scale,
    }
    if "normal" in sample:
        normal = _interpolate(sample["normal"], rows, columns)
        length = jnp.linalg.norm(normal, axis=-1, keepdims=True)
        # Opposite normals may cancel; then the normal is unknown.
        known = length > 1e-3
        result["normal"] = jnp.where(known, normal / jnp.where(known, length, 1), 0)
    return result


def flip(sample: Batch) -> Batch:
    """Flips a sample or a batch horizontally."""
    result = {
        name: jnp.flip(array, axis=-1 if name == "label" else -2) for name, array in sample.items()
    }
    if "normal" in result:
        result["normal"] = result["normal"].at[..., 0].multiply(-1)
    return result


class _Places(NamedTuple):
    """The source pixels of each of the N pixels of the result, along one axis."""

    first: jax.Array
    """[N], index of the first of two neighbouring source pixels"""
    share: jax.Array
    """[N], interpolation weight of the second one; that of the first is 1 - `share`"""
    nearest: jax.Array
    """[N], index of the nearest source pixel"""


def _places(size: int, which: jax.Array, share: jax.Array) -> _Places:
    lengths = [int(size / scale) for scale in SCALES]
    length = jnp.asarray(lengths)[which]
    start = jnp.floor(share * (size - length + 1).astype(jnp.float32)).astype(jnp.int32)
    # Rounding can turn a product just below an integer into that integer.
    start = jnp.minimum(start, size - length)
    steps = jnp.arange(size)
    position = steps * (length - 1).astype(jnp.float32) / max(size - 1, 1)
    first = jnp.floor(position).astype(jnp.int32)
    return _Places(start + first, position - first, start + steps * length // size)


def _interpolate(array: jax.Array, rows: _Places, columns: _Places) -> jax.Array:
    for axis, place in enumerate((rows, columns)):
        after = jnp.minimum(place.first + 1, array.shape[axis] - 1)
        share = place.share[:, None, None] if axis == 0 else place.share[None, :, None]
        array = (1 - share) * array.take(place.first, axis) + share * array.take(after, axis)
    return array
