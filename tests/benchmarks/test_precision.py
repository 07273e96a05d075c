"""Training in bfloat16 goes where float32 goes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from benchmarks import run_log
from benchmarks.errors import UserError
from benchmarks.perf.precision import cosine, first_update
from benchmarks.problems.qm9.models import models
from tests.benchmarks.conftest import QM9, changed

KEY = jax.random.key(0)


@pytest.mark.slow
def test_db_mtl_has_the_direction_of_float32(problem):
    count = problem.multi_task.num_tasks
    full, half = (models(QM9, count, compute_dtype=dtype)[0] for dtype in ("float32", "bfloat16"))
    params, _ = full.init(KEY)
    static, arrays = problem.batches("train")[0]
    batch = problem.load(problem.data, static, arrays)
    expected, losses = jax.jit(lambda p: first_update(full, p, batch))(params)
    streaming = dataclasses.replace(half, task_grads=half.pending_task_grads)
    for model in (half, streaming):
        got, half_losses = jax.jit(lambda p, m=model: first_update(m, p, batch))(params)
        assert cosine(got, expected) > 0.999
        np.testing.assert_allclose(half_losses, losses, rtol=0.02)
        assert {x.dtype for x in jax.tree.leaves((got, half_losses))} == {jnp.dtype("float32")}
    # Messages were computed in bfloat16: the last 16 bits of their matrices' gradients are zero.
    grads = jax.jit(lambda p: half.task_grads(p, {}, batch, KEY)[1][0])(params)
    matrices = np.asarray(grads["convolution"].pop("matrices")).view(np.uint32)
    assert np.all(matrices % 2**16 == 0)
    for leaf in jax.tree.leaves(grads):
        assert np.any(np.asarray(leaf).view(np.uint32) % 2**16)


def test_evaluation_is_in_float32(problem):
    count = problem.multi_task.num_tasks
    full, half = (models(QM9, count, compute_dtype=dtype) for dtype in ("float32", "bfloat16"))
    static, arrays = problem.batches("test")[0]
    batch = problem.load(problem.data, static, arrays)
    for exact, rounded in zip(full, half, strict=True):
        variables = exact.init(KEY)
        expected, got = (jax.jit(m.predict)(*variables, batch) for m in (exact, rounded))
        np.testing.assert_array_equal(got, expected)
        losses = [jax.jit(m.losses)(*variables, batch, KEY)[0] for m in (exact, rounded)]
        assert (losses[0] != losses[1]).any()


def test_the_type_is_a_setting_of_the_results(tiny):
    half = changed(tiny, compute_dtype="bfloat16")
    assert "compute_dtype" not in tiny.settings()["train"]
    run_log.open_folder(tiny.out, tiny.settings())
    with pytest.raises(UserError, match=r"train\.compute_dtype is None there and 'bfloat16' here"):
        run_log.open_folder(tiny.out, half.settings())


def test_networks_of_images_are_refused(tiny):
    from benchmarks.compare import open_problem
    from benchmarks.problems.dense.settings import DenseConfig

    config = dataclasses.replace(
        changed(tiny, compute_dtype="bfloat16"), dataset="nyuv2", data=DenseConfig()
    )
    with pytest.raises(UserError, match="expected float32 for nyuv2"):
        open_problem(config, Console(quiet=True))
