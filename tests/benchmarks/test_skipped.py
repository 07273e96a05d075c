"""Tasks that a method had to leave out are named after the epoch."""

import io

import jax.numpy as jnp
import optax
import pytest
from rich.console import Console

import dbmtl_jax as dbmtl
from benchmarks.progress_bar import ProgressBar
from benchmarks.training.skipped import SkippedTasks


@pytest.fixture
def shown():
    return io.StringIO()


@pytest.fixture
def progress(shown):
    return ProgressBar(Console(file=shown, width=200), "DB-MTL")


def test_a_task_that_is_skipped_is_named_once_an_epoch(progress, shown):
    tx = optax.chain(dbmtl.db_mtl(2), optax.sgd(0.1))
    skipped = SkippedTasks(["depth", "normals"])
    params = jnp.zeros(3)

    def step(state, losses):
        return tx.update(jnp.ones((2, 3)), state, params, losses=jnp.asarray(losses))[1]

    state = step(tx.init(params), [1.0, 2.0])
    skipped.note(7, state, progress)
    assert shown.getvalue() == ""
    state = step(step(state, [1.0, -2.0]), [1.0, -2.0])
    skipped.note(7, state, progress)
    first = shown.getvalue()
    assert "seed 7: normals was skipped in 2 of 3 steps, in the last 2 of them" in first
    assert "logarithm" in first
    state = step(state, [1.0, 2.0])
    skipped.note(7, state, progress)
    assert shown.getvalue() == first
