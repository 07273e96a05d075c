"""A transformation under test."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dbmtl_jax.core._types import Array, PyTree
from dbmtl_jax.testing._properties import Factory
from dbmtl_jax.testing._samplers import sample_losses, sample_params, sample_task_grads

STEPS = 4


class Subject(NamedTuple):
    """A transformation under test, with one compiled program for all checks."""

    factory: Factory
    num_tasks: int
    rtol: float
    atol: float
    tx: optax.GradientTransformationExtraArgs
    update: Callable[..., tuple[PyTree, Any]]  # jitted: (grads, state, losses, mask)
    traces: list[None]  # one entry for each compilation of `update`
    aggregates: bool  # whether it maps [T, *shape] to [*shape]

    def assert_close(self, found: PyTree, expected: PyTree) -> None:
        chex.assert_trees_all_close(found, expected, rtol=self.rtol, atol=self.atol)


Batch = tuple[PyTree, Array, Array]
"""Gradients [T, *shape], losses [T] and a mask [T]."""


@functools.lru_cache(maxsize=256)
def subject_of(factory: Factory, num_tasks: int, rtol: float, atol: float) -> Subject:
    tx = optax.with_extra_args_support(factory(num_tasks))
    params = sample_params()

    def update(grads: PyTree, state: Any, losses: Array, mask: Array) -> tuple[PyTree, Any]:
        return tx.update(grads, state, params, losses=losses, task_mask=mask)

    traces: list[None] = []

    @jax.jit
    def counted(grads: PyTree, state: Any, losses: Array, mask: Array) -> tuple[PyTree, Any]:
        traces.append(None)
        return update(grads, state, losses, mask)

    grads, losses, mask = batch(num_tasks, 0)
    shapes, _ = jax.eval_shape(update, grads, tx.init(params), losses, mask)
    aggregates = jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, params)
    return Subject(factory, num_tasks, rtol, atol, tx, counted, traces, aggregates)


def batch(num_tasks: int, step: int) -> Batch:
    mask = np.ones(num_tasks, bool)
    mask[-1] = num_tasks == 1 or step % 2 == 0
    return sample_task_grads(num_tasks, step), sample_losses(num_tasks, step), jnp.asarray(mask)


def batches(num_tasks: int) -> list[Batch]:
    return [batch(num_tasks, step) for step in range(STEPS)]


def run(subject: Subject) -> tuple[PyTree, Any]:
    """The loop that everything else must agree with: every step's update, and the last state."""
    state, updates = subject.tx.init(sample_params()), []
    for grads, losses, mask in batches(subject.num_tasks):
        merged, state = subject.update(grads, state, losses, mask)
        updates.append(merged)
    return jax.tree.map(lambda *xs: jnp.stack(xs), *updates), state
