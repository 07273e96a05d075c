"""Weights by torchvision's names: what is loaded where, and what is refused."""

import functools

import chex
import jax
import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.networks.cross_stitch import CrossStitch
from benchmarks.networks.deeplab import Sizes
from benchmarks.networks.mtan import MTAN
from benchmarks.networks.pretrained import load_backbones
from benchmarks.networks.resnet import Bottleneck, ResNet
from tests.benchmarks.networks.trees import random_network

_BLOCKS = (2, 1, 1, 1)
_WIDTH = 2


def make_weights(seed=0):
    """A bottleneck ResNet's arrays by torchvision's names, spelt out apart from the network."""
    rng = np.random.default_rng(seed)
    weights = {}

    def add_conv(name, out_features, in_features, size):
        shape = (out_features, in_features, size, size)
        weights[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)

    def add_norm(name, features):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{name}.{leaf}"] = rng.uniform(0.5, 1.5, features).astype(np.float32)
        weights[f"{name}.num_batches_tracked"] = np.array(7)

    add_conv("conv1", _WIDTH, 3, 7)
    add_norm("bn1", _WIDTH)
    features = _WIDTH
    for layer, blocks in enumerate(_BLOCKS, start=1):
        width = _WIDTH * 2 ** (layer - 1)
        for index in range(blocks):
            name = f"layer{layer}.{index}"
            add_conv(f"{name}.conv1", width, features, 1)
            add_norm(f"{name}.bn1", width)
            add_conv(f"{name}.conv2", width, width, 3)
            add_norm(f"{name}.bn2", width)
            add_conv(f"{name}.conv3", 4 * width, width, 1)
            add_norm(f"{name}.bn3", 4 * width)
            if index == 0:
                add_conv(f"{name}.downsample.0", 4 * width, features, 1)
                add_norm(f"{name}.downsample.1", 4 * width)
            features = 4 * width
    weights["fc.weight"], weights["fc.bias"] = np.ones((10, features)), np.ones(10)
    return weights


@pytest.fixture(scope="module")
def resnet():
    return random_network(functools.partial(ResNet, Bottleneck, _BLOCKS, width=_WIDTH))


def _save(path, weights):
    if path.suffix == ".npz":
        np.savez(path, **weights)
    else:
        pytest.importorskip("safetensors.numpy").save_file(weights, path)
    return path


def _assert_loaded(params, batch_stats, weights):
    """Every leaf holds its weight; names and layouts are written down once more."""
    used = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path((params, batch_stats)):
        *modules, kind = [entry.key for entry in path[1:]]
        names = {"kernel": "weight", "scale": "weight", "mean": "running_mean"}
        name = ".".join([*modules, names.get(kind, kind).replace("var", "running_var")])
        used.add(name)
        expected = weights[name]
        if kind == "kernel":
            expected = np.einsum("oihw->hwio", expected)
        np.testing.assert_array_equal(leaf, expected, err_msg=name)
    left = {name for name in weights.keys() - used if not name.startswith("fc.")}
    assert all(name.endswith("num_batches_tracked") for name in left)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_every_weight_arrives(resnet, tmp_path, suffix):
    weights = make_weights()
    path = _save(tmp_path / f"weights{suffix}", weights)
    before = jax.tree.map(np.copy, resnet[1:])
    params, batch_stats = load_backbones(path, resnet.params, resnet.batch_stats)
    _assert_loaded(params, batch_stats, weights)
    chex.assert_trees_all_equal_shapes_and_dtypes((params, batch_stats), before)
    chex.assert_trees_all_equal(resnet[1:], before)  # what was given is not changed


def test_weights_of_another_precision_are_cast(resnet, tmp_path):
    weights = make_weights()
    halves = {name: array.astype(np.float16) for name, array in weights.items()}
    path = _save(tmp_path / "weights.npz", halves)
    params, _ = load_backbones(path, resnet.params, resnet.batch_stats)
    assert params["conv1"]["kernel"].dtype == np.float32
    expected = halves["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params["conv1"]["kernel"], expected)


@pytest.mark.parametrize("make", [CrossStitch, MTAN])
def test_every_backbone_of_a_network_is_loaded_and_nothing_else(make, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "_BLOCKS", (2, 2, 2, 2))
    weights = make_weights()
    path = _save(tmp_path / "weights.npz", weights)
    make = functools.partial(make, (2, 1), Sizes(_BLOCKS, _WIDTH, head_width=2))
    network = random_network(make)
    encoder = {CrossStitch: [("branches", "0"), ("branches", "1")], MTAN: [("trunk",)]}
    places = [("encoder", *at) for at in encoder[make.func]]
    params, batch_stats = load_backbones(path, network.params, network.batch_stats, places)
    for at in places:
        parts = [
            functools.reduce(lambda t, key: t[key], at, tree) for tree in (params, batch_stats)
        ]
        _assert_loaded(*parts, weights)
    chex.assert_trees_all_equal(params["heads"], network.params["heads"])
    if make.func is MTAN:
        between = network.params["encoder"]["between"]
        chex.assert_trees_all_equal(params["encoder"]["between"], between)


def _refusal(resnet, path):
    with pytest.raises(UserError) as error:
        load_backbones(path, resnet.params, resnet.batch_stats)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_all_that_is_wrong_with_the_weights_is_named_at_once(resnet, tmp_path):
    weights = make_weights()
    del weights["layer2.0.bn1.running_var"]
    weights["layer1.2.conv1.weight"] = np.zeros((2, 8, 1, 1))
    weights["layer3.0.conv1.weight"] = weights["layer3.0.conv1.weight"][:, :, 0]
    weights["bn1.bias"] = np.float32([1, np.nan])
    weights["bn1.weight"] = np.array(["a", "b"])
    message = _refusal(resnet, _save(tmp_path / "weights.npz", weights))
    for part in (
        "missing: layer2.0.bn1.running_var;",
        "not in this network: layer1.2.conv1.weight;",
        "of another shape: layer3.0.conv1.weight (expected (8, 16, 1, 1), found (8, 16, 1));",
        "not finite numbers: bn1.bias, bn1.weight",
    ):
        assert part in message


def test_long_lists_are_cut(resnet, tmp_path):
    weights = {f"extra{i}": np.zeros(1) for i in range(11)}
    message = _refusal(resnet, _save(tmp_path / "weights.npz", weights))
    assert "extra7 and 3 more" in message


def test_files_that_are_none_are_named(resnet, tmp_path):
    assert "there is no such file" in _refusal(resnet, tmp_path / "none.npz")
    assert "expected a .safetensors or .npz file" in _refusal(resnet, tmp_path / "weights.pth")
    for content in (b"", b"PK\x03\x04", b"not an archive at all"):
        (tmp_path / "bad.npz").write_bytes(content)
        assert "damaged, or not an .npz file" in _refusal(resnet, tmp_path / "bad.npz")
    whole = _save(tmp_path / "whole.npz", make_weights()).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    assert "damaged, or not an .npz file" in _refusal(resnet, tmp_path / "half.npz")
    damaged = bytearray(whole)
    damaged[200] ^= 255
    (tmp_path / "damaged.npz").write_bytes(bytes(damaged))
    assert "damaged, or not an .npz file" in _refusal(resnet, tmp_path / "damaged.npz")


def test_damaged_safetensors_are_named(resnet, tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors")
    assert "damaged, or not a .safetensors file" in _refusal(resnet, tmp_path / "bad.safetensors")


def test_safetensors_says_what_to_install(resnet, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    message = _refusal(resnet, tmp_path / "weights.safetensors")
    assert "pip install -e '.[vision]'" in message
