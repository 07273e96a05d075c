"""Multi-Fashion as training sees it: batches, networks, task gradients and metrics."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.errors import UserError
from benchmarks.networks.classifier import Classifier, GreyResNet, LeNet
from benchmarks.problems.multi_fashion import data
from benchmarks.problems.multi_fashion.problem import MEAN, STD, MultiFashionProblem
from tests.benchmarks.multi_fashion.garments import FASHION, TINY

FAST = {"xla_backend_optimization_level": 0}  # to compile, not to run
KEY = jax.random.key(3)
NETWORKS = ("lenet", "resnet18")


@pytest.fixture(scope="module")
def problems():
    @functools.cache
    def make(network):
        return MultiFashionProblem(dataclasses.replace(TINY, network=network), 8, FASHION)

    return make


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
