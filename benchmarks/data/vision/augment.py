"""Random crops and flips of batches, on the device.

Off by default, as in the benchmark's protocol. A batch is a dict as `DenseSource.batch` gives it:
`image` [B, H, W, 3], `label` [B, H, W], `depth` [B, H, W, 1] and maybe `normal` [B, H, W, 3].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SCALES = (1.0, 1.2, 1.5)
"""A crop is the image's size divided by one of these, then enlarged to the whole."""

Batch = dict[str, jax.Array]


def augment(key: jax.Array, batch: Batch) -> Batch:
    """Crops, enlarges and flips every sample at random; each sample by itself.

    Args:
      key: PRNG key; the same one gives the same result.
      batch: see above.
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
    """Enlarges a part of a sample (without batch axis) to its whole size.

    What is nearer looks larger, so depth is divided by the scale.  Image and normals are
    interpolated between the corners' centres, the normals to unit length again (out of those that
    are known); label and depth are taken from the nearest pixel.

    Args:
      sample: [H, W, ...] each.
      which: index into `SCALES`.
      place: [2] in [0, 1), where the part begins, as a share of where it can.
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
        # Opposite ones may cancel out: no direction is left then.
        known = length > 1e-3
        result["normal"] = jnp.where(known, normal / jnp.where(known, length, 1), 0)
    return result


def flip(sample: Batch) -> Batch:
    """Mirrors left and right; [..., H, W, ...] with or without batch axis."""
    result = {
        name: jnp.flip(array, axis=-1 if name == "label" else -2) for name, array in sample.items()
    }
    if "normal" in result:
        result["normal"] = result["normal"].at[..., 0].multiply(-1)
    return result


class _Places(NamedTuple):
    """Where the pixels of the result lie in the sample, along one axis [N]."""

    first: jax.Array
    share: jax.Array
    """of the next pixel; the rest is that of `first`"""
    nearest: jax.Array


def _places(size: int, which: jax.Array, share: jax.Array) -> _Places:
    lengths = [int(size / scale) for scale in SCALES]
    length = jnp.asarray(lengths)[which]
    start = jnp.floor(share * (size - length + 1).astype(jnp.float32)).astype(jnp.int32)
    # A product just below a whole number can be rounded up to it.
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
