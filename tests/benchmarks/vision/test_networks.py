"""Networks for dense prediction: task gradients, statistics, and a step of training."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from benchmarks.config import Compare
from benchmarks.problems.dense import problem as dense
from benchmarks.problems.dense.settings import DenseConfig
from benchmarks.settings import TrainConfig
from benchmarks.training import runs
from benchmarks.training.programs import Programs
from tests.benchmarks.vision.conftest import BATCH, FAST, KEY, data_config

NETWORKS = ("deeplab", "segnet", "segnet_mtan", "mtan", "cross_stitch")


@pytest.fixture(scope="module")
def networks(prepared):
    """Network -> Cityscapes with it (two tasks), a batch, and variables; each made once."""

    @functools.cache
    def make(name: str):
        problem = dense.DenseProblem("cityscapes", data_config("cityscapes", prepared, name), BATCH)
        static, arrays = problem.batches("train")[0]
        batch = problem.load((), static, problem.read(static, arrays))
        return problem, batch, problem.multi_task.init(KEY)

    return make


@pytest.mark.parametrize(
    "name",
    # Those that are not shared by all heads take longer than the others together.
    [
        pytest.param(n, marks=pytest.mark.slow if n.endswith(("mtan", "stitch")) else ())
        for n in NETWORKS
    ],
)
def test_task_grads_are_a_loop_of_grad_and_statistics_move_once(name, networks):
    problem, batch, (params, stats) = networks(name)
    model = problem.multi_task

    @functools.partial(jax.jit, compiler_options=FAST)
    def both(params, stats):
        """The engine's answer, and the loop's on the function that equal weighting descends."""
        rows, state = [], None
        for task in range(2):

            def loss(p, task=task):
                losses, state = model.losses(p, stats, batch, KEY)
                return losses[task], (losses, state)

            (_, (losses, state)), grad = jax.value_and_grad(loss, has_aux=True)(params)
            rows.append(grad)
        return model.task_grads(params, stats, batch, KEY), ((losses, state), rows)

    # In training mode statistics are not read, so that large ones show every move.
    large = jax.tree.map(lambda x: jnp.full_like(x, 1e6), stats)
    ((losses, after), grads), ((expected, expected_after), rows) = both(params, large)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert np.all(losses > 0)
    chex.assert_trees_all_close(after, expected_after, rtol=1e-5)
    for path, leaf in flatten_dict(after[0], sep="/").items():
        # The blocks between layers run once for each task.
        per_task = name == "mtan" and path.startswith("between")
        per_task |= name == "segnet_mtan" and path.startswith(("down", "up"))
        np.testing.assert_allclose(leaf, 1e6 * 0.9 ** (2 if per_task else 1), rtol=1e-3)
    for task, row in enumerate(rows):
        scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(row))
        own = jax.tree.map(lambda g, task=task: g[task], grads[0])
        chex.assert_trees_all_close(own, row[0], rtol=1e-3, atol=1e-4 * scale)
        chex.assert_trees_all_close(grads[1][task], row[1][task], rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains_a_step(name, networks):
    """One step of DB-MTL changes all parameters but what no task's loss depends on."""
    problem, _, (params, stats) = networks(name)
    config = Compare(
        dataset="cityscapes", data=DenseConfig(), train=TrainConfig(schedule="constant")
    )
    programs = Programs(
        problem,
        problem.multi_task,
        runs.make_method("db_mtl", problem, config),
        config.train,
        compiler_options=FAST,
    )
    state = programs.init_state((params, stats), 0)
    static, arrays = problem.batches("train")[0]
    batch = static, problem.read(static, arrays)
    state, losses = programs.train_step(state, batch, jnp.full(1, 1e-3))
    assert np.isfinite(losses).all()
    moved = [
        float(jnp.abs(new - old).max()) > 0
        for new, old in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True)
    ]
    assert np.mean(moved) > 0.9
    chex.assert_tree_all_finite(state.variables)
