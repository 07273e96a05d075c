"""Shape and initial values of the ResNets; their arithmetic is compared with PyTorch apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.networks.resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet50
from tests.benchmarks.networks.trees import count, shapes


@pytest.mark.parametrize(
    ("make", "parameters", "norm_channels"),
    [
        (resnet18, 11_176_512, 4800),
        (resnet50, 23_508_032, 26560),
        (functools.partial(resnet50, output_stride=8), 23_508_032, 26560),
    ],
)
def test_parameter_counts(make, parameters, norm_channels):
    _, params, batch_stats = shapes(make)
    assert count(params) == parameters
    assert count(batch_stats) == 2 * norm_channels


@pytest.mark.parametrize(
    ("make", "features"),
    [
        (resnet18, (2, 3, 512)),
        (resnet50, (2, 3, 2048)),
        (functools.partial(resnet50, output_stride=16), (4, 5, 2048)),
        (functools.partial(resnet50, output_stride=8), (7, 9, 2048)),
    ],
)
def test_features_are_smaller_by_the_output_stride_rounded_up(make, features):
    apply, params, batch_stats = shapes(make)
    images = jax.ShapeDtypeStruct((2, 50, 70, 3), jnp.float32)
    outputs, _ = jax.eval_shape(apply, params, batch_stats, images)
    assert outputs.shape == (2, *features)


def _strides_and_dilations(network):
    return [
        [(block.conv2.strides[0], block.conv2.kernel_dilation[0]) for block in layer]
        for layer in network.layers
    ]


@pytest.mark.parametrize(
    ("output_stride", "third", "fourth"),
    [
        (32, [(2, 1)] + 5 * [(1, 1)], [(2, 1)] + 2 * [(1, 1)]),
        (16, [(2, 1)] + 5 * [(1, 1)], [(1, 1)] + 2 * [(1, 2)]),
        (8, [(1, 1)] + 5 * [(1, 2)], [(1, 2)] + 2 * [(1, 4)]),
    ],
)
def test_strides_and_dilations_sit_on_the_middle_convolution(output_stride, third, fourth):
    network = nnx.eval_shape(lambda: resnet50(output_stride=output_stride, rngs=nnx.Rngs(0)))
    second = [(2, 1)] + 3 * [(1, 1)]
    assert _strides_and_dilations(network) == [3 * [(1, 1)], second, third, fourth]
    for layer in network.layers:
        for block in layer:
            assert block.conv1.strides == block.conv3.strides == (1, 1)


def test_initial_values():
    block = Bottleneck(64, 96, stride=2, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(block.conv2.kernel[...].std(), (2 / (9 * 96)) ** 0.5, rtol=0.02)
    np.testing.assert_allclose(block.downsample[0].kernel[...].std(), (2 / 384) ** 0.5, rtol=0.02)
    np.testing.assert_array_equal(block.bn3.scale[...], 1)  # not 0: torchvision's default


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (1, 1, 1)}, r"blocks: expected four positive integers, found \(1, 1, 1\)"),
        ({"blocks": (1, 0, 1, 1)}, "blocks: expected four positive"),
        ({"width": 0}, "width: expected a positive integer, found 0"),
        ({"output_stride": 4}, "output_stride: expected 8, 16 or 32, found 4"),
        ({"block": BasicBlock, "output_stride": 8}, "dilation: basic blocks have none"),
    ],
)
def test_bad_options_are_named(options, message):
    options = {"block": Bottleneck, "blocks": (2, 2, 2, 2), "width": 2} | options
    with pytest.raises(ValueError, match=message):
        shapes(functools.partial(ResNet, **options))


def test_bad_images_are_named():
    apply, params, batch_stats = shapes(resnet18)
    for shape in ((32, 32, 3), (2, 3, 32, 32)):
        images = jax.ShapeDtypeStruct(shape, jnp.float32)
        with pytest.raises(ValueError, match=r"images: expected \[B, H, W, 3\], found shape"):
            jax.eval_shape(apply, params, batch_stats, images)
