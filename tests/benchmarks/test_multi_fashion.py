"""Multi-Fashion, from files in the form of Fashion-MNIST's to finished runs."""

import dataclasses
import functools
import gzip
import io
import pathlib
import struct

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console

from benchmarks import __main__ as command_line
from benchmarks import compare, examples_file
from benchmarks.config import Compare
from benchmarks.errors import UserError
from benchmarks.networks.classifier import Classifier, GreyResNet, LeNet
from benchmarks.problems.multi_fashion import data
from benchmarks.problems.multi_fashion.problem import MEAN, STD, MultiFashionProblem
from benchmarks.problems.multi_fashion.settings import DEBIAN_FOLDER, MultiFashionConfig
from benchmarks.report import command as report
from benchmarks.run_log import read_run
from benchmarks.settings import TrainConfig
from benchmarks.training import runs
from benchmarks.training.programs import Programs

FAST = {"xla_backend_optimization_level": 0}  # to compile, not to run
KEY = jax.random.key(3)
TINY = MultiFashionConfig(
    train_size=50, validation_size=9, test_size=7, width=2, blocks=(1, 1, 1, 1)
)
NETWORKS = ("lenet", "resnet18")
TRAIN = TrainConfig(epochs=2, batch_size=8, learning_rate=1e-2, schedule="halve", log_every=1)


def garments(count, seed=0):
    """Garments whose brightness is their class, with their number in the upper left corner."""
    labels = (np.arange(count) + seed) % 10
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 4:24, 4:24] = 20 * labels[:, None, None] + 40
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) + 1, seed + 1
    return data.Garments(images, labels.astype(np.uint8))


FASHION = data.FashionMNIST(garments(40), garments(20, seed=7))


def write(folder: pathlib.Path, fashion=FASHION, packed=gzip.compress, **contents):
    folder.mkdir(exist_ok=True)
    for name, own in zip(("train", "t10k"), fashion, strict=True):
        for kind, array in (("images-idx3", own.images), ("labels-idx1", own.labels)):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            suffix = ".gz" if packed is gzip.compress else ""
            path = folder / f"{name}-{kind}-ubyte{suffix}"
            path.write_bytes(packed(head + array.tobytes()))
    return folder


@pytest.fixture(scope="module")
def problems():
    @functools.cache
    def make(network):
        return MultiFashionProblem(dataclasses.replace(TINY, network=network), 8, FASHION)

    return make


# Files.


@pytest.mark.parametrize("packed", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_files_come_back_as_they_were(tmp_path, packed):
    chex.assert_trees_all_equal(data.read(write(tmp_path, packed=packed)), FASHION)


def test_what_a_user_can_mend_is_one_line(tmp_path):
    def refused(match, train=FASHION.train):
        folder = write(tmp_path / str(len(list(tmp_path.iterdir()))), FASHION._replace(train=train))
        with pytest.raises(UserError, match=match) as error:
            data.load(folder)
        assert "\n" not in str(error.value)

    images, labels = FASHION.train
    form = r"train-images-idx3-ubyte\.gz: expected images of 28 × 28 pixels, found an array "
    refused(form + r"\[40, 28, 27\]", data.Garments(images[:, :, 1:], labels))
    refused(form + r"\[0, 28, 28\]", data.Garments(images[:0], labels[:0]))
    refused("expected 40 labels, as .* found 39", data.Garments(images, labels[1:]))
    refused("label 9: expected 0 to 9, found 11", data.Garments(images, labels + 2))
    # Digits have the same form.
    refused(r"\(SHA-256\) of Fashion-MNIST's images and labels, found .*apt-get install")


def test_a_missing_file_is_told_with_where_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"--data-dir: no train-images-idx3-ubyte\.gz in .*apt-get"):
        data.load(tmp_path / "none")
    (write(tmp_path / "some") / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"--data-dir: no t10k-labels-idx1-ubyte\.gz in .*apt-get"):
        data.load(tmp_path / "some")


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_files_are_those_of_the_checksum():
    fashion = data.load(DEBIAN_FOLDER)
    assert [len(own.labels) for own in fashion] == [60_000, 10_000]


# Pairs.


def test_an_image_has_both_garments_at_their_places():
    """Garments of one bright pixel in each corner show where they lie."""
    corners = np.zeros((10, 28, 28), np.uint8)
    corners[:, ::27, ::27] = np.arange(1, 11, dtype=np.uint8)[:, None, None]
    source = data.Garments(corners, np.arange(10, dtype=np.uint8))
    found = data.overlaid(source, 500, seed=(0,))
    assert found.images.shape == (500, 36, 36)
    places = np.zeros((2, 500, 2), int)
    for k, (image, labels) in enumerate(zip(found.images, found.labels, strict=True)):
        expected = np.zeros_like(image)
        for task, label in enumerate(labels):
            at = np.argwhere(image == label + 1)
            places[task, k] = at.min(0)
            top, left = places[task, k]
            window = expected[top : top + 28, left : left + 28]
            np.maximum(window, corners[label], out=window)
        np.testing.assert_array_equal(image, expected)
    for task, lowest in enumerate((0, 4)):
        # A garment may hide a corner of the other: of those the place is not known.
        assert (places[task] >= lowest).all()
        for axis in range(2):
            assert set(range(lowest, lowest + 5)) <= set(places[task, :, axis])
    assert (found.labels[:, 0] != found.labels[:, 1]).all()


def test_the_brighter_pixel_is_seen():
    images = np.full((2, 28, 28), 10, np.uint8)
    images[1] = 20
    found = data.overlaid(data.Garments(images, np.array([0, 1], np.uint8)), 20, seed=(1,))
    assert (found.images[:, 8:28, 8:28] == 20).all(), "where both lie, whatever their places"
    assert set(np.unique(found.images)) == {0, 10, 20}


def test_every_garment_is_equally_often_first():
    found = data.overlaid(FASHION.train, 80, seed=(0,))
    assert (np.bincount(found.labels[:, 0], minlength=10) == 8).all()


def test_sets_share_no_garment_and_follow_from_the_seed():
    first = data.pairs(FASHION, TINY)
    chex.assert_trees_all_equal(first, data.pairs(FASHION, TINY))
    other = data.pairs(FASHION, dataclasses.replace(TINY, split_seed=1))
    assert any((first[name].images != other[name].images).any() for name in first)
    assert {name: len(own.labels) for name, own in first.items()} == {
        "train": 50, "validation": 9, "test": 7,
    }  # fmt: skip
    larger = data.pairs(FASHION, dataclasses.replace(TINY, train_size=200, test_size=60))
    for name, own in first.items():
        chex.assert_trees_all_equal(own, data.Pairs(*(a[: len(own.labels)] for a in larger[name])))


def test_no_garment_of_validation_is_trained_on(monkeypatch):
    used = {}

    def overlaid(own, size, *, seed, name):
        used[name] = set(own.images[:, 0, 0])
        return data.Pairs(np.zeros((size, 36, 36), np.uint8), np.zeros((size, 2), np.uint8))

    monkeypatch.setattr(data, "overlaid", overlaid)
    data.pairs(FASHION, TINY)
    assert len(used["validation"]) == 4
    assert used["train"] | used["validation"] == set(range(1, 41))
    assert not used["train"] & used["validation"]
    data.pairs(FASHION, dataclasses.replace(TINY, validation_size=0))
    assert used["train"] == set(range(1, 41))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"train_size": 0}, "--train-size: expected at least 1, found 0"),
        ({"validation_size": -1}, "--validation-size: expected at least 0, found -1"),
        ({"test_size": 0}, "--test-size: expected at least 1, found 0"),
    ],
)
def test_numbers_of_images_that_cannot_be_made(options, match):
    with pytest.raises(UserError, match=match):
        data.pairs(FASHION, dataclasses.replace(TINY, **options))


def test_garments_of_one_class_make_no_pairs():
    one = data.Garments(FASHION.train.images, np.zeros(40, np.uint8))
    with pytest.raises(UserError, match="train: expected garments of two classes, found one"):
        data.pairs(data.FashionMNIST(one, FASHION.test), TINY)


# The problem.


def test_a_batch_has_normalised_images_and_labels(problems):
    problem = problems("lenet")
    made = data.pairs(FASHION, TINY)
    for split, own in made.items():
        seen = []
        for static, arrays in problem.batches(split, epoch=1):
            batch = problem.load(problem.data, static, problem.read(static, arrays))
            chex.assert_shape(batch["image"], (8, 36, 36, 1))
            index, valid = arrays
            first = {"train": 0, "validation": 50, "test": 59}[split]
            expected = (own.images[index[valid] - first] / 255 - MEAN) / STD
            np.testing.assert_allclose(batch["image"][valid, ..., 0], expected, atol=1e-5)
            np.testing.assert_array_equal(batch["label"][valid], own.labels[index[valid] - first])
            assert (np.asarray(batch["label"])[~valid] == -1).all()
            seen += list(index[valid])
        assert len(seen) == len(set(seen)) == (48 if split == "train" else len(own.labels))
    orders = [problem.batches("train", epoch=epoch)[0][1][0] for epoch in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()


@pytest.mark.parametrize(
    ("network", "shared", "head"), [("lenet", 41_330, 510), ("resnet18", 11_176_512, 5_130)]
)
def test_networks_have_the_published_size(network, shared, head):
    @nnx.eval_shape
    def made():
        rngs = nnx.Rngs(0)
        encoder = LeNet(36, rngs=rngs) if network == "lenet" else GreyResNet(rngs=rngs)
        return Classifier(encoder, 2, 10, rngs=rngs)

    def size(module):
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))

    assert size(made.encoder) == shared
    assert [size(own) for own in made.heads] == [head, head]


def test_lenet_takes_images_of_one_size():
    with pytest.raises(ValueError, match="side: expected at least 16, found 15"):
        LeNet(15, rngs=nnx.Rngs(0))
    lenet = LeNet(16, 2, rngs=nnx.Rngs(0))
    assert lenet(jnp.zeros((3, 16, 16, 1))).shape == (3, 10)
    with pytest.raises(ValueError, match=r"images: expected \[B, 16, 16, 1\], found"):
        lenet(jnp.zeros((3, 17, 16, 1)))


@pytest.mark.parametrize("network", NETWORKS)
def test_task_grads_are_a_loop_of_grad(problems, network):
    problem = problems(network)
    model = problem.multi_task
    static, arrays = problem.batches("train")[0]
    batch = problem.load(problem.data, static, arrays)
    params, stats = model.init(KEY)

    @functools.partial(jax.jit, compiler_options=FAST)
    def both(params, stats):
        rows = [
            jax.grad(lambda p, t=t: model.losses(p, stats, batch, KEY)[0][t])(params)
            for t in range(2)
        ]
        return (
            model.task_grads(params, stats, batch, KEY),
            rows,
            model.losses(params, stats, batch, KEY),
        )

    ((losses, after), grads), rows, (expected, expected_after) = both(params, stats)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    chex.assert_trees_all_close(after, expected_after, rtol=1e-5)
    for t, row in enumerate(rows):
        own = jax.tree.map(lambda g, t=t: g[t], grads[0])
        chex.assert_trees_all_close(own, row[0], rtol=1e-3, atol=1e-5)
        chex.assert_trees_all_close(grads[1][t], row[1][t], rtol=1e-3, atol=1e-5)
    # The paths of the last shared layer are those of some parameters, and not of all.
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(params)
    }
    assert 0 < sum(map(model.last_shared, paths)) < len(paths) / 2
    # A single-task network learns its own task alone.
    alone, own_stats = problem.single_task.init(KEY)
    (values, _), own = jax.jit(problem.single_task.task_grads, compiler_options=FAST)(
        alone, own_stats, batch, KEY
    )
    assert values.shape == (2,)
    chex.assert_trees_all_equal_shapes(own, alone)


def test_logits_of_the_true_classes_are_fully_accurate(problems):
    problem = problems("lenet")
    labels = jnp.array([[3, 4], [5, 6], [-1, -1]])
    right = [jax.nn.one_hot(labels[:, t], 10) for t in range(2)]
    half = [right[0], jnp.roll(right[1], 1, axis=0)]
    batch = {"label": labels, "image": jnp.zeros((3, 36, 36, 1))}
    assert problem.metrics(problem.totals(right, batch)) == [[1.0], [1.0]]
    assert problem.metrics(problem.totals(half, batch)) == [[1.0], [0.0]]
    examples = problem.examples(right, batch)
    assert [list(own) for own in examples.targets.values()] == [[3, 5], [4, 6]]
    chex.assert_trees_all_equal(examples.predictions, examples.targets)
    assert examples.image["top_left"].shape == (2, 36, 36, 3)


def test_a_batch_of_one_image_is_refused_where_it_is_normalised():
    MultiFashionProblem(TINY, 1, FASHION)
    with pytest.raises(UserError, match=r"--train\.batch-size: expected at least 2"):
        MultiFashionProblem(dataclasses.replace(TINY, network="resnet18"), 1, FASHION)


# Runs.


def test_from_files_to_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHECKSUM", data.checksum(FASHION))
    monkeypatch.setattr(runs, "Programs", functools.partial(Programs, compiler_options=FAST))
    config = Compare(
        "multi_fashion",
        dataclasses.replace(TINY, data_dir=write(tmp_path / "files")),
        TRAIN,
        # Stacked, pending, of the representation, and of the last shared layer.
        methods=("stl", "ew", "db_mtl", "mgda@wrt=representation", "mgda@measured=last"),
        out=tmp_path / "out",
    )
    console = Console(file=io.StringIO(), width=500)
    compare.run_missing(config, console)
    for method in config.methods:
        records = read_run(config.out / f"{method}-seed0.jsonl")
        assert records[-1]["kind"] == "result", method
        assert records[0]["tasks"] == ["top_left", "bottom_right"]
        assert records[0]["sample_data"] is False
    seen = examples_file.read(examples_file.path(config.out, "ew", 0))
    assert list(seen.targets) == ["top_left", "bottom_right"]
    assert seen.class_names == data.CLASSES
    report.report(config.out, console)
    table = (config.out / "table.md").read_text(encoding="utf-8")
    assert "50 training images" in table
    assert "Top left" in table
    assert "Bottom right" in table
    assert (config.out / "examples-ew.png").is_file()


def test_without_validation_the_last_epochs_count(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHECKSUM", data.checksum(FASHION))
    monkeypatch.setattr(runs, "Programs", functools.partial(Programs, compiler_options=FAST))
    config = Compare(
        "multi_fashion",
        dataclasses.replace(TINY, validation_size=0, data_dir=write(tmp_path / "files")),
        TRAIN,
        methods=("stl",),
        out=tmp_path / "out",
    )
    compare.run_missing(config, Console(file=io.StringIO()))
    end = read_run(config.out / "stl-seed0.jsonl")[-1]
    assert end["tested_epochs"] == TRAIN.epochs
    assert end["best_epoch"] == [TRAIN.epochs - 1] * 2


def test_presets():
    def parsed(*command):
        return command_line.parse(["compare", "multi_fashion", *command])

    paper = parsed("--preset", "paper")
    sizes = (paper.data.train_size, paper.data.validation_size, paper.data.test_size)
    assert sizes == (120_000, 12_000, 20_000)
    assert (paper.data.network, paper.data.width) == ("lenet", 10)
    assert (paper.train.epochs, paper.train.batch_size, paper.train.learning_rate) == (
        100, 256, 1e-3,
    )  # fmt: skip
    resnet = parsed("--preset", "paper", "--network", "resnet18")
    assert (resnet.data.width, resnet.data.blocks, resnet.train.epochs) == (64, (2, 2, 2, 2), 20)
    quick = parsed("--network", "resnet18", "--data-dir", "x")
    assert (quick.data.width, quick.data.blocks) == (16, (1, 1, 1, 1))
    assert quick.out == pathlib.Path("runs/multi_fashion-resnet18")
    with pytest.raises(UserError, match="multi_fashion has the presets quick and paper alone"):
        parsed("--preset", "small")
