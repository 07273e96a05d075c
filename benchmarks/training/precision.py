"""Training in a smaller floating-point type than that of the parameters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.problems.problem import Model


def compute_in(dtype: str, model: Model) -> Model:
    """The model with forward and backward passes of training in `dtype`.

    Parameters, batch statistics, losses and what the method and the optimizer make of gradients
    stay float32; so does evaluation. Networks work in the type of their parameters.
    """
    if dtype == "float32":
        return model

    def lower(params: Any) -> Any:
        return jax.tree.map(lambda p: p.astype(dtype), params)

    def losses(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        values, new = model.losses(lower(params), batch_stats, batch, key)
        return values.astype(jnp.float32), new

    def task_grads(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        (values, new), grads = model.task_grads(lower(params), batch_stats, batch, key)
        # A product with 1/ℓ of small losses may need float32's digits, and its averages do.
        grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)
        return (values.astype(jnp.float32), new), grads

    # Gradients that do not exist yet cannot be given a type.
    return dataclasses.replace(model, losses=losses, task_grads=task_grads, pending_task_grads=None)
