"""ResNets, normalisation and resizing against plain PyTorch definitions."""

import functools

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs torch")

import torch.nn.functional as F  # noqa: N812, E402
from torch import nn  # noqa: E402

from benchmarks.networks.batch_norm import BatchNorm  # noqa: E402
from benchmarks.networks.functional import functional  # noqa: E402
from benchmarks.networks.pretrained import load_backbones  # noqa: E402
from benchmarks.networks.resize import resize_align_corners  # noqa: E402
from benchmarks.networks.resnet import resnet18, resnet50  # noqa: E402
from tests.benchmarks.networks.trees import difference, random_images, shapes  # noqa: E402

_TOLERANCE = 1e-4


def _nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2)))


def _nhwc(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


class _Block(nn.Module):
    """Both kinds of block: `convs` are (kernel size, width) and the stride is a 3×3's."""

    def __init__(self, source, convs, stride, dilation):
        super().__init__()
        self.number = len(convs)
        target, features, strides = convs[-1][1], source, stride
        for i, (size, width) in enumerate(convs, start=1):
            here, strides = (strides, 1) if size == 3 else (1, strides)
            layer = nn.Conv2d(
                features,
                width,
                size,
                here,
                size // 2 * dilation,
                dilation if size == 3 else 1,
                bias=False,
            )
            setattr(self, f"conv{i}", layer)
            setattr(self, f"bn{i}", nn.BatchNorm2d(width))
            features = width
        self.downsample = None
        if stride != 1 or source != target:
            self.downsample = nn.Sequential(
                nn.Conv2d(source, target, 1, stride, bias=False), nn.BatchNorm2d(target)
            )

    def forward(self, x):
        y = x
        for i in range(1, self.number + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.number:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class _TorchResNet(nn.Module):
    """`layers`: for each layer the (stride, dilation) of every block."""

    def __init__(self, bottleneck, layers):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        features = 64
        for i, blocks in enumerate(layers):
            width = 64 * 2**i
            convs = [(1, width), (3, width), (1, 4 * width)] if bottleneck else 2 * [(3, width)]
            made = []
            for stride, dilation in blocks:
                made.append(_Block(features, convs, stride, dilation))
                features = convs[-1][1]
            setattr(self, f"layer{i + 1}", nn.Sequential(*made))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _layer(count, stride, first=1, rest=1):
    return [(stride, first)] + [(1, rest)] * (count - 1)


_LAYERS18 = [_layer(2, 1), _layer(2, 2), _layer(2, 2), _layer(2, 2)]
_LAYERS50 = [_layer(3, 1), _layer(4, 2), _layer(6, 2), _layer(3, 2)]
_DILATED50 = [_layer(3, 1), _layer(4, 2), _layer(6, 1, 1, 2), _layer(3, 1, 2, 4)]


@pytest.mark.parametrize(
    ("make", "bottleneck", "layers"),
    [
        (resnet18, False, _LAYERS18),
        (resnet50, True, _LAYERS50),
        (functools.partial(resnet50, output_stride=8), True, _DILATED50),
    ],
    ids=["resnet18", "resnet50", "resnet50_dilated"],
)
def test_resnets(make, bottleneck, layers, tmp_path):
    torch.manual_seed(0)
    reference = _TorchResNet(bottleneck, layers)
    for name, value in reference.state_dict().items():
        if value.ndim == 1:  # of batch normalisation: a mean or bias, else a scale or variance
            low, high = (-0.3, 0.3) if name.endswith(("mean", "bias")) else (0.5, 1.5)
            nn.init.uniform_(value, low, high)
    arrays = {name: value.numpy() for name, value in reference.state_dict().items()}
    np.savez(tmp_path / "weights.npz", **arrays)
    apply, *skeleton = shapes(make)
    params, batch_stats = load_backbones(tmp_path / "weights.npz", *skeleton)

    size = 64 if layers is _DILATED50 else 32  # features of 8×8, for the dilations to show
    images = random_images(2, size, size, 3)
    outputs, _ = jax.jit(apply)(params, batch_stats, images)
    figures = {"eval": difference(outputs, _nhwc(reference.eval()(_nchw(images))))}

    # Not too few values a channel: normalisation by their variance would amplify rounding.
    images = random_images(8, 64, 64, 3)
    outputs, moved = jax.jit(functools.partial(apply, train=True))(params, batch_stats, images)
    figures["train"] = difference(outputs, _nhwc(reference.train()(_nchw(images))))
    arrays = {name: value.numpy() for name, value in reference.state_dict().items()}
    np.savez(tmp_path / "moved.npz", **arrays)
    _, expected = load_backbones(tmp_path / "moved.npz", *skeleton)
    figures["statistics"] = max(
        jax.tree.leaves(jax.tree.map(difference, moved, expected)), default=np.inf
    )
    print(figures)  # shown by -rP
    assert max(figures.values()) < _TOLERANCE


def test_batch_norm_over_few_values():
    """Eight values, as in DeepLab's image pooling: the unbiased variance is 8/7 of the other."""
    reference = nn.BatchNorm2d(5)
    apply, params, batch_stats = functional(BatchNorm(5))
    x = random_images(8, 1, 1, 5)
    for _ in range(3):
        y, batch_stats = apply(params, batch_stats, x, train=True)
        expected = reference(_nchw(x))
    assert difference(y, _nhwc(expected)) < 1e-6
    assert difference(batch_stats["mean"], reference.running_mean) < 1e-6
    assert difference(batch_stats["var"], reference.running_var) < 1e-6


@pytest.mark.parametrize("size", [(13, 9), (2, 31), (5, 7), (1, 1)])
def test_resize(size):
    x = random_images(2, 5, 7, 3)
    expected = F.interpolate(_nchw(x), size, mode="bilinear", align_corners=True)
    assert difference(resize_align_corners(x, size), _nhwc(expected)) < 1e-6
