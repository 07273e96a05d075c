"""Stacked gradients as pending ones, for transformations that take no others."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _labels
from dbmtl_jax.core._rows import TaskGrads
from dbmtl_jax.core._types import Array, PyTree
from dbmtl_jax.engine import PendingTaskGrads, value_and_task_grads
from dbmtl_jax.testing._properties import Factory


@functools.lru_cache(maxsize=256)
def given_pending(factory: Factory) -> Factory:
    """A factory of the same transformation, which turns stacked gradients into pending ones."""

    @functools.wraps(factory)
    def streamed(num_tasks: int, **options: Any) -> optax.GradientTransformationExtraArgs:
        tx = optax.with_extra_args_support(factory(num_tasks, **options))

        def update(grads, state, params=None, **extra_args):
            if not isinstance(grads, TaskGrads):
                grads = as_pending(grads, num_tasks, options.get("labels"))
            return tx.update(grads, state, params, **extra_args)

        return optax.GradientTransformationExtraArgs(tx.init, update)

    return streamed


def as_pending(grads: PyTree, num_tasks: int, labels: Any = None) -> PendingTaskGrads:
    """Pending gradients of linear losses, whose rows are these.

    Args:
      grads: stacked gradients [T, *shape].
      num_tasks: T, the number of tasks.
      labels: see `dbmtl_jax.core`.
    """
    resolved = _labels.resolve(labels, grads, num_tasks)
    points = jax.tree.map(
        lambda label, g: jnp.zeros(g.shape[1:] if label == _labels.SHARED else g.shape, g.dtype),
        resolved,
        grads,
    )

    def losses(params: PyTree) -> list[Array]:
        totals = [jnp.zeros((), jnp.float32)] * num_tasks
        leaves = (jax.tree.leaves(tree) for tree in (resolved, grads, params))
        for label, g, p in zip(*leaves, strict=True):
            for task in range(num_tasks):
                if label in (_labels.SHARED, task):
                    row = g[task] if label == _labels.SHARED else g
                    totals[task] += jnp.sum((row * p).astype(jnp.float32))
        return totals

    return value_and_task_grads(losses, labels=labels, stream=True)(points)[1]
