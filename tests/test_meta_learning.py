"""Which methods `jax.grad` can differentiate a step of, as the guide says."""

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

import dbmtl_jax as dbmtl
from tests.helpers import samplers

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "guides" / "engine.md"
SECTION = PAGE.read_text("utf-8").partition("## Differentiating through an update\n")[2]
STACKED, STREAMED = (
    set(re.findall(r"`(\w+)`", text)) & set(dbmtl.METHODS)
    for text in SECTION.split("With `stream=True`")
)
SLOPES = jnp.arange(6.0).reshape(3, 2) + 1


def losses_of(w):
    return jnp.mean((jnp.tanh(w)[:, None] * SLOPES - 1) ** 2, axis=0)


def after_a_step(tx, stream, w):
    """The sum of the losses behind a step, of which meta-learning takes the gradient."""
    losses, grads = dbmtl.value_and_task_grads(losses_of, stream=stream)(w)
    updates, _ = tx.update(grads, tx.init(w), w, losses=losses)
    return jnp.sum(losses_of(w - 0.1 * updates))


def check(name, stream, is_differentiable):
    tx = samplers.METHODS[name](2)
    fun = jax.grad(lambda w: after_a_step(tx, stream, w))
    w = jax.ShapeDtypeStruct((3,), "float32")
    if is_differentiable:
        jax.eval_shape(fun, w)
    else:
        with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
            jax.eval_shape(fun, w)


@pytest.mark.parametrize("name", samplers.METHODS)
def test_a_step_can_be_differentiated_unless_the_guide_says_otherwise(name):
    check(name, False, name not in STACKED)


@pytest.mark.parametrize("name", ["ew", "db_mtl", "moco", "gls", "pcgrad"])
def test_so_can_a_streamed_step(name):
    check(name, True, name not in STREAMED)


@pytest.mark.parametrize("stream", [False, True])
def test_all_can_be_differentiated_forward(stream):
    w = jax.ShapeDtypeStruct((3,), "float32")
    for name in samplers.METHODS:
        tx = samplers.METHODS[name](2)
        jax.eval_shape(jax.jacfwd(lambda w, tx=tx: after_a_step(tx, stream, w)), w)


def test_the_gradient_is_that_of_finite_differences():
    tx, w, step = dbmtl.db_mtl(2), jnp.array([0.3, -0.2, 0.5]), 1e-2
    found = jax.grad(lambda w: after_a_step(tx, False, w))(w)
    for k in range(3):
        moved = [after_a_step(tx, False, w.at[k].add(sign * step)) for sign in (1, -1)]
        assert abs(found[k] - (moved[0] - moved[1]) / (2 * step)) < 1e-2 * jnp.abs(found).max()
