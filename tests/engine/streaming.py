"""A network with heads whose gradients stream or are stacked, for the tests of streaming."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import dbmtl_jax as dbmtl
from tests.helpers import samplers

T = 3
LABELS = {"encoder": "shared", "heads": list(range(T))}
SUMS = {name for name, promises in dbmtl.PROPERTIES.items() if promises.passes == "1"}
"""Methods that never look at a task's gradient."""
METHODS = samplers.METHODS | {
    "db_mtl, beta 0": functools.partial(dbmtl.db_mtl, beta=0.0),
    "db_mtl, debias": functools.partial(
        dbmtl.db_mtl, beta=dbmtl.inverse_power_schedule(0.9, 0.5), debias=True
    ),
    "moco, normalize": functools.partial(dbmtl.moco, normalize=True),
}


def init(dtype=jnp.float32):
    keys = iter(jax.random.split(jax.random.key(0), 2 + T))
    normal = functools.partial(jax.random.normal, dtype=dtype)
    return {
        "encoder": {"w": normal(next(keys), (4, 5)), "b": normal(next(keys), (5,))},
        "heads": [normal(next(keys), (5, 2)) for _ in range(T)],
    }


def encode(params, x, ill):
    return jnp.tanh(x @ params["w"] + params["b"][None])


def head(task):
    def loss(params, z, x, ill):
        error = jnp.mean((z @ params - task) ** 2) * 10.0 ** (task - 1)
        # Adds nothing to the loss, and to the gradient ill², which overflows.
        return error + jnp.sum(ill[task] * (ill[task] * (z - jax.lax.stop_gradient(z))))

    return loss


def losses_fn(params, x, ill):
    z = encode(params["encoder"], x, ill)
    return [head(task)(params["heads"][task], z, x, ill) for task in range(T)]


def loss_of_slice(params, task, x, ill):
    """The loss of the task with this number, and no other."""
    return jax.lax.switch(
        task, [lambda *args, t=t: losses_fn(*args)[t] for t in range(T)], params, x, ill
    )


def task_grads(engine, stream, params, x, ill):
    if engine == "slices" and stream:
        fun = dbmtl.per_task_value_and_grads(
            loss_of_slice, labels=LABELS, stream=True, mode="loop", in_axes=(0, None, None)
        )
        return fun(params, jnp.arange(T), x, ill)
    if engine != "encoder":
        mode = engine if stream and engine != "slices" else "unroll"
        fun = dbmtl.value_and_task_grads(losses_fn, labels=LABELS, stream=stream, mode=mode)
        return fun(params, x, ill)
    fun = dbmtl.encoder_value_and_task_grads(encode, [head(t) for t in range(T)], stream=stream)
    losses, grads = fun((params["encoder"], params["heads"]), x, ill)
    if not stream:
        return losses, {"encoder": grads[0], "heads": grads[1]}
    return losses, grads


def stepper(tx, engine, stream):
    """A jitted step with donated state; `traces` has an entry for every time that it was traced."""
    traces = []

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, params, x, ill, mask):
        traces.append(None)
        losses, grads = task_grads(engine, stream, params, x, ill)
        if engine == "encoder" and stream:
            params = (params["encoder"], params["heads"])
        updates, state = tx.update(grads, state, params, losses=losses, task_mask=mask)
        return updates, state

    step.traces = traces
    return step


def assert_close(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        scale = float(np.max(np.abs(np.asarray(b)), initial=0))
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5 * scale + 1e-7)


def without_norms(state):
    return [
        jnp.zeros_like(leaf) if "norms" in jax.tree_util.keystr(path) else leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    ]


def batches(with_ill):
    """(x, ill, mask) of some steps; in one a task is masked, in one a task is ill."""
    xs = jax.random.normal(jax.random.key(1), (4, 6, 4))
    for k, x in enumerate(xs):
        ill = jnp.zeros(T).at[0].set(1e30 * (with_ill and k == 2))
        yield x, ill, jnp.array([True, k != 1, True])
