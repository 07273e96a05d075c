"""Padding and initial values of the layers, and resizing, against closed forms."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.networks.layers import KAIMING_FAN_OUT, TORCH_DEFAULT, XAVIER, conv, halve, linear
from benchmarks.networks.resize import resize_align_corners

_RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("size", "stride", "dilation"), [(3, 2, 1), (7, 2, 1), (3, 1, 4)])
def test_convolution_is_centred(size, stride, dilation):
    """A kernel that reads its centre and one corner alone picks pixels out."""
    layer = conv(1, 2, size, stride=stride, dilation=dilation, rngs=nnx.Rngs(0))
    kernel = np.zeros((size, size, 1, 2), np.float32)
    kernel[size // 2, size // 2, 0, 0] = kernel[0, 0, 0, 1] = 1
    layer.kernel[...] = jnp.asarray(kernel)
    image = _RNG.normal(size=(1, 10, 12, 1)).astype(np.float32)
    corner = dilation * (size // 2)
    shifted = np.pad(image, ((0, 0), (corner, 0), (corner, 0), (0, 0)))[:, :10, :12]
    expected = np.concatenate([image, shifted], axis=-1)[:, ::stride, ::stride]
    np.testing.assert_allclose(layer(image), expected, rtol=1e-6)


def test_convolution_without_padding_is_the_inner_part():
    layer = conv(1, 2, 5, padding=0, rngs=nnx.Rngs(0))
    whole = conv(1, 2, 5, rngs=nnx.Rngs(0))
    image = _RNG.normal(size=(1, 10, 12, 1)).astype(np.float32)
    np.testing.assert_allclose(layer(image), whole(image)[:, 2:-2, 2:-2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("init", "deviation", "uniform"),
    [
        (TORCH_DEFAULT, (3 * 9 * 40) ** -0.5, True),
        (KAIMING_FAN_OUT, (2 / (9 * 60)) ** 0.5, False),
        (XAVIER, (2 / (9 * 100)) ** 0.5, False),
    ],
)
def test_initial_convolutions(init, deviation, uniform):
    layer = conv(40, 60, 3, bias=True, init=init, rngs=nnx.Rngs(0))
    kernel = np.asarray(layer.kernel[...])
    np.testing.assert_allclose(kernel.std(), deviation, rtol=0.03)
    largest = np.abs(kernel).max() / deviation
    assert (largest <= 3**0.5 + 1e-5) if uniform else (largest > 3)  # a truncated one ends at 2.3
    bias = np.abs(layer.bias[...]).max()
    assert (0.9 < bias * 360**0.5 <= 1) if uniform else (bias == 0)


def test_initial_linear_layer():
    layer = linear(50, 40, rngs=nnx.Rngs(0))
    for array in (layer.kernel[...], layer.bias[...]):
        assert 0.9 < np.abs(array).max() * 50**0.5 <= 1


def test_halve_takes_the_maxima():
    x = jnp.arange(24.0).reshape(1, 4, 6, 1)
    np.testing.assert_array_equal(halve(x)[0, :, :, 0], [[7, 9, 11], [19, 21, 23]])


def test_resize_keeps_corners_and_is_linear_between():
    rows, columns = np.arange(4.0)[:, None], np.arange(3.0)[None]
    image = (2 * rows - 5 * columns + rows * columns).astype(np.float32)[None, :, :, None]
    actual = resize_align_corners(jnp.asarray(image), (10, 7))
    rows, columns = np.linspace(0, 3, 10)[:, None], np.linspace(0, 2, 7)[None]
    expected = 2 * rows - 5 * columns + rows * columns  # bilinear functions are reproduced
    np.testing.assert_allclose(actual[0, :, :, 0], expected, atol=1e-5)


def test_resize_interpolates_neighbours_only():
    image = jnp.asarray([0.0, 1, 0, 0]).reshape(1, 4, 1, 1)
    actual = resize_align_corners(image, (7, 1)).ravel()
    np.testing.assert_allclose(actual, [0, 0.5, 1, 0.5, 0, 0, 0], atol=1e-6)


def test_resize_of_or_to_one_pixel_and_to_the_same_size():
    image = jnp.asarray(_RNG.normal(size=(2, 3, 5, 2)), jnp.float32)
    chex.assert_trees_all_equal(resize_align_corners(image, (1, 1)), image[:, :1, :1])
    constant = jnp.broadcast_to(image[:, :1, :1], (2, 4, 3, 2))
    chex.assert_trees_all_close(resize_align_corners(image[:, :1, :1], (4, 3)), constant)
    chex.assert_trees_all_equal(resize_align_corners(image, (3, 5)), image)


def test_resize_keeps_half_precision_but_does_not_compute_in_it():
    image = jnp.asarray(_RNG.normal(size=(1, 5, 5, 1)), jnp.bfloat16)
    actual = resize_align_corners(image, (13, 17))
    exact = resize_align_corners(image.astype(jnp.float32), (13, 17))
    assert actual.dtype == jnp.bfloat16
    chex.assert_trees_all_equal(actual, exact.astype(jnp.bfloat16))


def test_resize_names_bad_arguments():
    with pytest.raises(ValueError, match=r"images: expected \[B, H, W, C\], found shape \(3, 4\)"):
        resize_align_corners(jnp.zeros((3, 4)), (2, 2))
    for size in ((0, 2), (2, 2, 2)):
        with pytest.raises(ValueError, match="size: expected two positive integers"):
            resize_align_corners(jnp.zeros((1, 3, 4, 1)), size)


def test_resize_has_the_transposed_interpolation_as_derivative():
    image = jnp.asarray(_RNG.normal(size=(1, 3, 4, 1)), jnp.float32)
    cotangent = jnp.asarray(_RNG.normal(size=(1, 5, 7, 1)), jnp.float32)
    resized, pullback = jax.vjp(lambda x: resize_align_corners(x, (5, 7)), image)
    (gradient,) = pullback(cotangent)
    np.testing.assert_allclose((gradient * image).sum(), (cotangent * resized).sum(), rtol=1e-5)
