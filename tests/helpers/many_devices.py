"""The library on eight devices: `python -m tests.helpers.many_devices [METHOD ...]` prints JSON.

A process of its own: how many devices a CPU is must be known before JAX starts.
"""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

import dbmtl_jax as dbmtl
import tests.conftest  # noqa: F401  # the same settings of JAX
from benchmarks.methods import BASELINE, PAPER
from benchmarks.training import mesh as meshes
from tests.helpers import explicit_axes, samplers

T, BATCH, INPUTS, HIDDEN = 3, 16, 4, 8
STEPS = 3


def network():
    rng = np.random.default_rng(0)

    def array(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    params = {"w": array(INPUTS, HIDDEN), "b": array(HIDDEN), "v": array(HIDDEN, T) / 2}
    batches = [(array(BATCH, INPUTS), array(BATCH, T)) for _ in range(STEPS)]
    return params, batches


def losses(params, x, y):
    z = jnp.tanh(x @ params["w"] + params["b"][None])
    # Of different sizes, as tasks' losses are.
    return jnp.mean((z @ params["v"] - y) ** 2, axis=0) * jnp.array([1.0, 0.1, 5.0])


def run(tx, layout):
    """Updates of all steps and the last state, on the host; the places; how often it compiled."""

    @jax.jit
    def step(params, state, x, y):
        values, grads = dbmtl.value_and_task_grads(losses)(params, x, y)
        updates, state = tx.update(grads, state, params, losses=values)
        params = optax.apply_updates(params, updates)
        return layout.divide(params, params), layout.divide(state, params), updates, values

    params, batches = network()
    params = layout.put_state(params, params)
    state = jax.jit(lambda p: layout.divide(tx.init(p), p))(params)
    updates = []
    for batch in batches:
        params, state, update, values = step(params, state, *layout.put_batch(batch, 0))
        updates.append(update)
    arrays = [x for x in jax.tree.leaves((params, state)) if not is_key(x)]
    return jax.device_get((updates, arrays, values)), arrays, step._cache_size()


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def error(got, expected):
    """The largest difference in any array, relative to the array's largest entry."""
    worst = 0.0
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        scale = np.max(np.abs(theirs), initial=0.0) or 1.0
        worst = max(worst, float(np.max(np.abs(np.subtract(ours, theirs, dtype=float))) / scale))
    return worst


def check(name):
    """One method on the mesh next to one device."""
    shapes = {leaf.shape for leaf in jax.tree.leaves(network()[0])}
    own = name == "mtadam"
    tx = optax.chain(samplers.METHODS[name](T), optax.scale(-0.01) if own else optax.adam(0.01))
    mesh = meshes.make("data=4,fsdp=2", BATCH)
    got, arrays, compilations = run(tx, meshes.Layout(mesh, T))
    expected, _, _ = run(tx, meshes.Layout(None, T))
    divided, on_tasks = 0, 0
    for array in arrays:
        axes = list(array.sharding.spec) + [None] * array.ndim
        stacked = array.shape[1:] in shapes and array.shape[:1] == (T,)
        divided += "fsdp" in axes
        on_tasks += stacked and axes[0] is not None
    return {
        "error": error(got, expected),
        "compilations": compilations,
        "divided": divided,
        "on_tasks": on_tasks,
        "explicit": explicit(name, tx, expected),
    }


def explicit(name, tx, expected):
    """The method on a mesh with explicit axes, stacked and streamed."""
    params, batches = network()
    found = {}
    for stream in (False, True):
        if not stream or name in explicit_axes.EXECUTED:
            got, compilations = explicit_axes.run(tx, stream, params, batches)
            found[f"stream={stream}"] = error(got, expected), compilations
        explicit_axes.trace(tx, stream, params, batches[0])
    return found


def engines():
    """Task gradients of all engine functions on a mesh with explicit axes."""
    params, (batch, *_) = network()
    expected = explicit_axes.task_grads(None, params, batch)
    got = explicit_axes.task_grads(explicit_axes.make(), params, batch)
    return {name: error(got[name], expected[name]) for name in expected}


def shard_map():
    """Losses averaged over devices before the logarithm, and logarithms averaged instead."""
    params, ((x, y), *_) = network()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    tx = dbmtl.db_mtl(T, beta=0.0)

    def one_device(x, y):
        values, grads = dbmtl.value_and_task_grads(losses)(params, x, y)
        return tx.update(grads, tx.init(params), params, losses=values)[0]

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P(), check_vma=False
    )
    def right(x, y):
        values, grads = dbmtl.value_and_task_grads(losses)(params, x, y)
        values, grads = jax.lax.pmean((values, grads), "data")
        return tx.update(grads, tx.init(params), params, losses=values)[0]

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P(), check_vma=False
    )
    def wrong(x, y):
        def logs(p):
            return jnp.log(losses(p, x, y))

        _, grads = dbmtl.value_and_task_grads(logs)(params)
        grads = jax.lax.pmean(grads, "data")
        balanced = dbmtl.balance_magnitudes(T)
        return balanced.update(grads, balanced.init(params), params, losses=jnp.ones(T))[0]

    expected = jax.jit(one_device)(x, y)
    return {
        "right": error(jax.jit(right)(x, y), expected),
        "wrong": error(jax.jit(wrong)(x, y), expected),
    }


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    if names := sys.argv[1:]:
        found = {"methods": {name: check(name) for name in names}}
    else:
        found = {
            "methods": {name: check(name) for name in PAPER if name != BASELINE},
            "engines": engines(),
            "shard_map": shard_map(),
        }
    print(json.dumps(found))
