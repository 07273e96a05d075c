"""The multi-task networks against their arithmetic in PyTorch, written down once more."""

import functools

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs torch")

import torch.nn.functional as F  # noqa: N812, E402

from benchmarks.networks.cross_stitch import CrossStitch  # noqa: E402
from benchmarks.networks.deeplab import DeepLab, Sizes  # noqa: E402
from benchmarks.networks.mtan import MTAN  # noqa: E402
from benchmarks.networks.segnet import SegNet  # noqa: E402
from benchmarks.networks.segnet_mtan import SegNetMTAN  # noqa: E402
from tests.benchmarks.networks.trees import (  # noqa: E402
    difference,
    random_images,
    random_network,
)

_TOLERANCE = 1e-4


def _nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2)))


def _nhwc(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


# All on NCHW tensors. `p` and `s` are the parameters and
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


_RESNET = Sizes((2, 2, 3, 2), width=4, head_width=6)
_SEGNET = (3, 4, 5, 6, 6)


@pytest.mark.parametrize(
    ("make", "reference"),
    [
        (functools.partial(DeepLab, (3, 1), _RESNET), _deeplab),
        (functools.partial(CrossStitch, (3, 1), _RESNET), _cross_stitch),
        (functools.partial(MTAN, (3, 1), _RESNET), _mtan),
        (functools.partial(SegNet, (3, 1), _SEGNET), _segnet),
        (functools.partial(SegNetMTAN, (3, 1), _SEGNET), _segnet_mtan),
    ],
    ids=["deeplab", "cross_stitch", "mtan", "segnet", "segnet_mtan"],
)
def test_networks(make, reference):
    apply, params, batch_stats = random_network(make)
    images = random_images(2, 32, 64, 3)
    outputs, _ = jax.jit(apply)(params, batch_stats, images)

    def tensor(leaf):
        return torch.from_numpy(leaf.transpose(3, 2, 0, 1).copy() if leaf.ndim == 4 else leaf)

    trees = (jax.tree.map(tensor, tree) for tree in (params, batch_stats))
    expected = reference(*trees, _nchw(images), (32, 64))
    figures = [difference(a, _nhwc(b)) for a, b in zip(outputs, expected, strict=True)]
    print(figures)  # shown by -rP
    assert max(figures) < _TOLERANCE
