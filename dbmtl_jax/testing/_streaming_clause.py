"""The clauses about gradients that are pending, which need losses to differentiate."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from dbmtl_jax.core._types import Array, PyTree
from dbmtl_jax.engine import encoder_value_and_task_grads, value_and_task_grads
from dbmtl_jax.testing._subject import Subject, batch


class _Batch(NamedTuple):
    """What a step reads beside the parameters and the state."""

    x: Array  # [batch, features]
    factor: Array  # [T], by which losses are multiplied: NaN spoils a loss and its gradient
    offset: Array  # [T], the root of which is added: 0 spoils the gradient alone
    mask: Array  # [T]


def check_streaming(subject: Subject) -> None:
    """Gradients that stream give the updates of stacked ones, also with bad and masked tasks."""
    num_tasks, tx = subject.num_tasks, subject.tx
    if not subject.aggregates:
        return
    keys = jax.random.split(jax.random.key(0), 5)
    params = {"w": jax.random.normal(keys[0], (2, 8)), "b": jnp.ones(8)}
    # Gradients far from collinear: otherwise rounding decides about weights.
    heads = jax.random.normal(keys[1], (num_tasks, 8))

    def losses_of(params: PyTree, batch: _Batch) -> list[Array]:
        z = jnp.tanh(batch.x @ params["w"] + params["b"][None])
        return [
            jnp.mean((z @ head - 1) ** 2) * 3.0**t * batch.factor[t]
            + jnp.sqrt(batch.offset[t] * (1 + jnp.sum(z**2)))
            for t, head in enumerate(heads)
        ]

    @functools.partial(jax.jit, static_argnums=0)
    def step(stream: bool, state: Any, batch: _Batch) -> tuple[PyTree, Any]:
        losses, grads = value_and_task_grads(losses_of, stream=stream)(params, batch)
        return tx.update(grads, state, params, losses=losses, task_mask=batch.mask)

    def assert_close(found: PyTree, expected: PyTree, case: str) -> None:
        # Both ways of computing inner products round, and small eigenvalues magnify that.
        rtol, atol = 20 * subject.rtol, 20 * subject.atol
        chex.assert_trees_all_close(found, expected, rtol=rtol, atol=atol, custom_message=case)

    def healthy(key: Array, mask: Array) -> _Batch:
        ones = jnp.ones(num_tasks)
        return _Batch(jax.random.normal(key, (4, 2)), ones, 1e-4 * ones, mask)

    stacked = streamed = tx.init(params)
    for k in range(2):
        good = healthy(keys[2 + k], batch(num_tasks, k)[2])
        expected, stacked = step(False, stacked, good)
        found, streamed = step(True, streamed, good)
        assert_close(found, expected, "healthy tasks")
    chex.assert_trees_all_equal_shapes_and_dtypes(streamed, stacked)

    good = healthy(keys[4], jnp.ones(num_tasks, bool))
    for case, bad, absent in _cases(good):
        expected, _ = step(False, stacked, good._replace(mask=~absent))
        for stream in (False, True):
            found, moved = step(stream, streamed if stream else stacked, bad)
            case = f"{case}, {'streaming' if stream else 'stacked'}"
            chex.assert_tree_all_finite((found, moved), custom_message=case)
            assert_close(found, expected, case)
            if bool(jnp.all(absent)):
                chex.assert_trees_all_equal(
                    found, jax.tree.map(jnp.zeros_like, params), custom_message=case
                )


def check_representation(subject: Subject) -> None:
    """Gradients of a representation are weighed like those of parameters, or are refused."""
    num_tasks, tx = subject.num_tasks, subject.tx
    if not subject.aggregates:
        return
    keys = jax.random.split(jax.random.key(1), 3)
    encoder = {"w": jax.random.normal(keys[0], (2, 8))}
    x, targets = jax.random.normal(keys[1], (4, 2)), jax.random.normal(keys[2], (num_tasks, 8))
    params = (encoder, (None,) * num_tasks)

    def encode(params: PyTree, factors: Array) -> Array:
        return jnp.tanh(x @ params["w"])

    def head_of(task: int) -> Callable[..., Array]:
        target = targets[task]
        return lambda _, z, factors: factors[task] * 3.0**task * jnp.mean((z - target[None]) ** 2)

    fun = encoder_value_and_task_grads(
        encode, [head_of(task) for task in range(num_tasks)], wrt="representation"
    )

    @jax.jit
    def step(factors: Array, state: Any, mask: Array) -> tuple[PyTree, Any]:
        losses, grads = fun(params, factors)
        return tx.update(grads, state, params, losses=losses, task_mask=mask)

    ones, state = jnp.ones(num_tasks), tx.init(params)
    everyone, last = ones.astype(bool), jnp.arange(num_tasks) == num_tasks - 1
    try:
        updates, moved = step(ones, state, everyone)
    except TypeError as error:
        if "representation" not in str(error):
            raise
        return
    chex.assert_tree_all_finite((updates, moved))
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, state)
    for case, absent in (("one task", last), ("every task", everyone)):
        expected, _ = step(ones, state, ~absent)
        found, moved = step(jnp.where(absent, jnp.nan, ones), state, everyone)
        chex.assert_tree_all_finite((found, moved), custom_message=case)
        subject.assert_close(found, expected)


def _cases(good: _Batch) -> Iterator[tuple[str, _Batch, Array]]:
    """What may go wrong: its name, the batch, and which tasks must be as if masked."""
    num_tasks = len(good.mask)
    last, everyone = jnp.arange(num_tasks) == num_tasks - 1, jnp.ones(num_tasks, bool)
    for whose, tasks in (("one task", last), ("every task", everyone)):
        yield f"{whose} masked", good._replace(mask=~tasks), tasks
        for what, bad in (
            ("loss NaN", good._replace(factor=jnp.where(tasks, jnp.nan, good.factor))),
            ("gradient NaN", good._replace(offset=jnp.where(tasks, 0, good.offset))),
        ):
            yield f"{whose}: {what}", bad, tasks
            yield f"{whose}: {what}, masked", bad._replace(mask=~tasks), tasks
