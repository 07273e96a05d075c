"""Training in bfloat16 goes where float32 goes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl
from benchmarks import run_log
from benchmarks.errors import UserError
from benchmarks.training.precision import compute_in
from tests.benchmarks.conftest import changed

KEY = jax.random.key(0)


def update(model, params, batch):
    """DB-MTL's first update, and the losses."""
    tx = dbmtl.db_mtl(model.num_tasks, labels=model.labels)
    (losses, _), grads = model.task_grads(params, {}, batch, KEY)
    return tx.update(grads, tx.init(params), params, losses=losses)[0], losses, grads


def cosine(a, b) -> float:
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]).astype(float) for t in (a, b))
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_db_mtl_has_the_direction_of_float32(problem):
    full = problem.multi_task
    half = compute_in("bfloat16", full)
    params, _ = full.init(KEY)
    static, arrays = problem.batches("train")[0]
    batch = problem.load(problem.data, static, arrays)
    expected, losses, _ = jax.jit(lambda p: update(full, p, batch))(params)
    got, half_losses, grads = jax.jit(lambda p: update(half, p, batch))(params)
    assert cosine(got[0], expected[0]) > 0.999
    np.testing.assert_allclose(half_losses, losses, rtol=0.02)
    assert {x.dtype for x in jax.tree.leaves((got, half_losses))} == {jnp.dtype("float32")}
    # It is bfloat16 that was computed in: the last 16 bits of every number are zero.
    assert all(np.all(np.asarray(x).view(np.uint32) % 2**16 == 0) for x in jax.tree.leaves(grads))


def test_the_type_is_a_setting_of_the_results(tiny):
    half = changed(tiny, compute_dtype="bfloat16")
    assert "compute_dtype" not in tiny.settings()["train"]
    run_log.open_folder(tiny.out, tiny.settings())
    with pytest.raises(UserError, match=r"train\.compute_dtype is None there and 'bfloat16' here"):
        run_log.open_folder(tiny.out, half.settings())


def test_networks_of_images_are_refused(tiny):
    from benchmarks.compare import open_problem
    from benchmarks.config import DenseConfig

    config = dataclasses.replace(
        changed(tiny, compute_dtype="bfloat16"), dataset="nyuv2", data=DenseConfig()
    )
    with pytest.raises(UserError, match="expected float32 for nyuv2"):
        open_problem(config, None)
