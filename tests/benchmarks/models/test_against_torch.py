"""Every network against plain PyTorch definitions, written down apart from the Flax ones."""

import functools

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs torch")

import torch.nn.functional as F  # noqa: N812, E402
from torch import nn  # noqa: E402

from benchmarks.models.batch_norm import BatchNorm  # noqa: E402
from benchmarks.models.cross_stitch import CrossStitch  # noqa: E402
from benchmarks.models.deeplab import DeepLab  # noqa: E402
from benchmarks.models.functional import functional  # noqa: E402
from benchmarks.models.mtan import MTAN  # noqa: E402
from benchmarks.models.pretrained import load_backbones  # noqa: E402
from benchmarks.models.resize import resize_align_corners  # noqa: E402
from benchmarks.models.resnet import resnet18, resnet50  # noqa: E402
from benchmarks.models.segnet import SegNet  # noqa: E402
from benchmarks.models.segnet_mtan import SegNetMTAN  # noqa: E402
from tests.benchmarks.models.trees import random_network, shapes  # noqa: E402

_TOLERANCE = 1e-4


def _difference(actual, expected):
    """The largest difference, relative to the largest value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all()
    return np.abs(actual - expected).max() / np.abs(expected).max()


def _images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


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
def test_resnets(make, bottleneck, layers, tmp_path, record_property):
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
    images = _images(2, size, size, 3)
    outputs, _ = jax.jit(apply)(params, batch_stats, images)
    figures = {"eval": _difference(outputs, _nhwc(reference.eval()(_nchw(images))))}

    # Not too few values a channel: normalisation by their variance would amplify rounding.
    images = _images(8, 64, 64, 3)
    outputs, moved = jax.jit(functools.partial(apply, train=True))(params, batch_stats, images)
    figures["train"] = _difference(outputs, _nhwc(reference.train()(_nchw(images))))
    arrays = {name: value.numpy() for name, value in reference.state_dict().items()}
    np.savez(tmp_path / "moved.npz", **arrays)
    _, expected = load_backbones(tmp_path / "moved.npz", *skeleton)
    figures["statistics"] = max(
        jax.tree.leaves(jax.tree.map(_difference, moved, expected)), default=np.inf
    )
    print(figures)  # shown by -rP
    assert max(figures.values()) < _TOLERANCE


def test_batch_norm_over_few_values():
    """Eight values, as in DeepLab's image pooling: the unbiased variance is 8/7 of the other."""
    reference = nn.BatchNorm2d(5)
    apply, params, batch_stats = functional(BatchNorm(5))
    x = _images(8, 1, 1, 5)
    for _ in range(3):
        y, batch_stats = apply(params, batch_stats, x, train=True)
        expected = reference(_nchw(x))
    assert _difference(y, _nhwc(expected)) < 1e-6
    assert _difference(batch_stats["mean"], reference.running_mean) < 1e-6
    assert _difference(batch_stats["var"], reference.running_var) < 1e-6


@pytest.mark.parametrize("size", [(13, 9), (2, 31), (5, 7), (1, 1)])
def test_resize(size):
    x = _images(2, 5, 7, 3)
    expected = F.interpolate(_nchw(x), size, mode="bilinear", align_corners=True)
    assert _difference(resize_align_corners(x, size), _nhwc(expected)) < 1e-6


# Below, the arithmetic of the other networks on NCHW tensors. `p` and `s` are the parameters and
# batch statistics of one layer, in trees of tensors.


def _conv(p, x, stride=1, dilation=1):
    padding = p["kernel"].shape[2] // 2 * dilation
    return F.conv2d(x, p["kernel"], p.get("bias"), stride, padding, dilation)


def _norm(p, s, x):
    return F.batch_norm(x, s["mean"], s["var"], p["scale"], p["bias"], training=False)


def _conv_norm(p, s, x, dilation=1):
    return F.relu(_norm(p["norm"], s["norm"], _conv(p["conv"], x, dilation=dilation)))


def _in_order(p, s):
    """The items of a list, in order."""
    return [(p[str(i)], s.get(str(i), {})) for i in range(len(p))]


def _mask(p, s, x):
    x = _conv_norm(p["squeeze"], s["squeeze"], x)
    return torch.sigmoid(_norm(p["norm"], s["norm"], _conv(p["expand"], x)))


def _bottleneck(p, s, x, stride=1, dilation=1):
    y = F.relu(_norm(p["bn1"], s["bn1"], _conv(p["conv1"], x)))
    y = F.relu(_norm(p["bn2"], s["bn2"], _conv(p["conv2"], y, stride, dilation)))
    y = _norm(p["bn3"], s["bn3"], _conv(p["conv3"], y))
    if "downsample" in p:
        (conv, _), (norm, stats) = _in_order(p["downsample"], {"1": s["downsample"]["1"]})
        x = _norm(norm, stats, _conv(conv, x, stride))
    return F.relu(x + y)


def _stem(p, s, x):
    return F.max_pool2d(F.relu(_norm(p["bn1"], s["bn1"], _conv(p["conv1"], x, 2))), 3, 2, 1)


_STRIDES = (1, 2, 1, 1)
_DILATIONS = ((1, 1), (1, 1), (1, 2), (2, 4))


def _resnet_layer(p, s, x, layer):
    """The outputs of all blocks of a layer of the dilated ResNet."""
    outputs = []
    for i, (block, stats) in enumerate(_in_order(p[f"layer{layer}"], s[f"layer{layer}"])):
        stride = _STRIDES[layer - 1] if i == 0 else 1
        x = _bottleneck(block, stats, x, stride, _DILATIONS[layer - 1][min(i, 1)])
        outputs.append(x)
    return outputs


def _upsample(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def _aspp_head(p, s, x, size):
    pyramid, stats = p["pyramid"], s["pyramid"]
    views = [_conv_norm(pyramid["local"], stats["local"], x)]
    atrous = _in_order(pyramid["atrous"], stats["atrous"])
    for rate, (branch, branch_stats) in zip((12, 24, 36), atrous, strict=True):
        views.append(_conv_norm(branch, branch_stats, x, rate))
    mean = _conv_norm(pyramid["image"], stats["image"], F.adaptive_avg_pool2d(x, 1))
    views.append(F.interpolate(mean, x.shape[2:], mode="bilinear", align_corners=False))
    x = _conv_norm(pyramid["project"], stats["project"], torch.cat(views, 1))
    return _upsample(_conv(p["predict"], _conv_norm(p["mix"], s["mix"], x)), size)


def _deeplab(p, s, x, size):
    features = _stem(p["encoder"], s["encoder"], x)
    for layer in (1, 2, 3, 4):
        features = _resnet_layer(p["encoder"], s["encoder"], features, layer)[-1]
    return [_aspp_head(*head, features, size) for head in _in_order(p["heads"], s["heads"])]


def _cross_stitch(p, s, x, size):
    branches = _in_order(p["encoder"]["branches"], s["encoder"]["branches"])
    features = [_resnet_layer(*branch, _stem(*branch, x), 1)[-1] for branch in branches]
    for layer in (2, 3, 4):
        # Row t of the matrix holds what task t takes from each.
        mixed = torch.einsum(
            "tj,jbchw->tbchw", p["encoder"]["stitches"][layer - 2], torch.stack(features)
        )
        features = [
            _resnet_layer(*branch, own, layer)[-1]
            for branch, own in zip(branches, mixed, strict=True)
        ]
    heads = _in_order(p["heads"], s["heads"])
    return [_aspp_head(*head, own, size) for head, own in zip(heads, features, strict=True)]


def _mtan(p, s, x, size):
    trunk = p["encoder"]["trunk"], s["encoder"]["trunk"]
    between = _in_order(p["encoder"]["between"], s["encoder"]["between"])
    layers, x = [], _stem(*trunk, x)
    for layer in (1, 2, 3, 4):
        layers.append(_resnet_layer(*trunk, x, layer))
        x = layers[-1][-1]
    outputs = []
    for head, stats in _in_order(p["heads"], s["heads"]):
        masks = _in_order(head["attention"], stats["attention"])
        mine = _mask(*masks[0], layers[0][-2]) * layers[0][-1]
        mine = F.max_pool2d(_bottleneck(*between[0], mine), 2)
        for i in (1, 2, 3):
            mine = _mask(*masks[i], torch.cat([layers[i][-2], mine], 1)) * layers[i][-1]
            if i < 3:
                mine = _bottleneck(*between[i], mine)
        outputs.append(_aspp_head(head["decoder"], stats["decoder"], mine, size))
    return outputs


def _segnet_trunk(p, s, x):
    """(first, last) of every stage down and up, from the finest to the coarsest."""
    down, up, places = [], [], []
    for stage in _in_order(p["down"], s["down"]):
        layers = _in_order(*stage)
        first = last = _conv_norm(*layers[0], x)
        for layer in layers[1:]:
            last = _conv_norm(*layer, last)
        down.append((first, last))
        x, place = F.max_pool2d(last, 2, return_indices=True)
        places.append(place)
    for stage, place in list(zip(_in_order(p["up"], s["up"]), places, strict=True))[::-1]:
        first = x = F.max_unpool2d(x, place, 2)
        for layer in _in_order(*stage):
            x = _conv_norm(*layer, x)
        up.append((first, x))
    return down, up[::-1]


def _segnet_head(p, x):
    return _conv(p["predict"], _conv(p["mix"], x))


def _segnet(p, s, x, size):
    _, up = _segnet_trunk(p["encoder"], s["encoder"], x)
    return [_segnet_head(head, up[0][1]) for head, _ in _in_order(p["heads"], {})]


def _segnet_mtan(p, s, x, size):
    p, s, heads = p["encoder"], s["encoder"], p["heads"]
    down, up = _segnet_trunk(p["trunk"], s["trunk"], x)
    outputs = []
    for task, (own, stats) in enumerate(_in_order(p["attention"], s["attention"])):
        mine = None
        for i, mask in enumerate(_in_order(own["down"], stats["down"])):
            first, last = down[i]
            seen = first if mine is None else torch.cat([first, mine], 1)
            mine = _conv_norm(p["down"][str(i)], s["down"][str(i)], _mask(*mask, seen) * last)
            mine = F.max_pool2d(mine, 2)
        for i in reversed(range(5)):
            first, last = up[i]
            mine = F.interpolate(mine, scale_factor=2, mode="bilinear", align_corners=True)
            mine = _conv_norm(p["up"][str(i)], s["up"][str(i)], mine)
            mask = own["up"][str(i)], stats["up"][str(i)]
            mine = _mask(*mask, torch.cat([first, mine], 1)) * last
        outputs.append(_segnet_head(heads[str(task)], mine))
    return outputs


_RESNET = {"blocks": (2, 2, 3, 2), "width": 4, "head_width": 6}
_SEGNET = {"widths": (3, 4, 5, 6, 6)}


@pytest.mark.parametrize(
    ("make", "reference"),
    [
        (functools.partial(DeepLab, (3, 1), **_RESNET), _deeplab),
        (functools.partial(CrossStitch, (3, 1), **_RESNET), _cross_stitch),
        (functools.partial(MTAN, (3, 1), **_RESNET), _mtan),
        (functools.partial(SegNet, (3, 1), **_SEGNET), _segnet),
        (functools.partial(SegNetMTAN, (3, 1), **_SEGNET), _segnet_mtan),
    ],
    ids=["deeplab", "cross_stitch", "mtan", "segnet", "segnet_mtan"],
)
def test_networks(make, reference):
    apply, params, batch_stats = random_network(make)
    images = _images(2, 32, 64, 3)
    outputs, _ = jax.jit(apply)(params, batch_stats, images)

    def tensor(leaf):
        return torch.from_numpy(leaf.transpose(3, 2, 0, 1).copy() if leaf.ndim == 4 else leaf)

    trees = (jax.tree.map(tensor, tree) for tree in (params, batch_stats))
    expected = reference(*trees, _nchw(images), (32, 64))
    figures = [_difference(a, _nhwc(b)) for a, b in zip(outputs, expected, strict=True)]
    print(figures)
    assert max(figures) < _TOLERANCE
