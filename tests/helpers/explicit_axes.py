"""Steps on a mesh as `jax.make_mesh` makes it, whose axes are explicit; for `many_devices`.

With explicit axes JAX has shardings in its types and raises an error where one is ambiguous.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import dbmtl_jax as dbmtl

T = 3
PLACES = {"w": P(None, "fsdp"), "b": P("fsdp"), "v": P("fsdp", None)}
EXECUTED = ("cagrad", "db_mtl", "grad_drop")
"""Streamed on the devices, too: a method for each way in which rows are read."""

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Compiles in less time; how a program is divided is decided before."""


def make():
    return jax.make_mesh((4, 2), ("data", "fsdp"))


def put(mesh, params, x, y):
    """Parameters divided over one axis, a batch over the other."""
    places = {name: NamedSharding(mesh, place) for name, place in PLACES.items()}
    return jax.device_put(params, places), *jax.device_put((x, y), NamedSharding(mesh, P("data")))


def encode(params, x):
    return jnp.tanh(x @ params["w"] + params["b"][None])


def losses(place, params, x, y):
    """Those of `many_devices`; only the user's own sum over a divided axis says where it is."""
    found = jnp.matmul(encode(params, x), params["v"], out_sharding=place)
    return jnp.mean((found - y) ** 2, axis=0) * jnp.array([1.0, 0.1, 5.0])


def step_of(tx, mesh, stream):
    fun = functools.partial(losses, NamedSharding(mesh, P("data")))

    def step(params, state, x, y):
        values, grads = dbmtl.value_and_task_grads(fun, stream=stream)(params, x, y)
        updates, new_state = tx.update(grads, state, params, losses=values)
        # As a loop needs it: nothing changes its place.
        for old, new in zip(
            jax.tree.leaves((params, state)), jax.tree.leaves((updates, new_state)), strict=True
        ):
            assert jax.typeof(new).sharding.spec == jax.typeof(old).sharding.spec
        return optax.apply_updates(params, updates), new_state, updates, values

    return step


def run(tx, stream, params, batches):
    """What `many_devices.run` gives: updates, arrays, losses; and how often it compiled."""
    mesh = make()
    with jax.set_mesh(mesh):
        step = jax.jit(step_of(tx, mesh, stream), compiler_options=QUICK)
        params, *_ = put(mesh, params, *batches[0])
        state = tx.init(params)
        updates = []
        for x, y in batches:
            _, x, y = put(mesh, params, x, y)
            params, state, update, values = step(params, state, x, y)
            updates.append(update)
        arrays = jax.tree.leaves((params, state))
        return jax.device_get((updates, arrays, values)), step._cache_size()


def trace(tx, stream, params, batch):
    """Traces a step outside of the mesh, with arrays that lie on it."""
    mesh = make()
    params, x, y = put(mesh, params, *batch)
    jax.eval_shape(step_of(tx, mesh, stream), params, tx.init(params), x, y)


def engines(mesh):
    """Every engine function in every mode, as functions of parameters and a batch."""
    place = None if mesh is None else NamedSharding(mesh, P("data"))

    def head(task):
        def loss(v, z, x, y):
            return jnp.mean((jnp.matmul(z, v, out_sharding=place) - y[:, task]) ** 2)

        return loss

    def of_losses(mode, stream, params, x, y):
        fun = dbmtl.value_and_task_grads(functools.partial(losses, place), mode=mode, stream=stream)
        return fun(params, x, y)

    def of_encoder(mode, stream, params, x, y):
        heads = [head(task) for task in range(T)]
        fun = dbmtl.encoder_value_and_task_grads(
            lambda p, x, y: encode(p, x), heads, mode=mode, stream=stream
        )
        own = [params["v"][:, task] for task in range(T)]
        return fun(({"w": params["w"], "b": params["b"]}, own), x, y)

    def of_batches(mode, params, x, y):
        batches = (jnp.stack([x, -x, 2 * x]), jnp.stack([y, y, y]))
        fun = dbmtl.per_task_value_and_grads(
            lambda p, x, y: losses(place, p, x, y).sum(), mode=mode
        )
        return fun(params, *batches)

    for mode in ("vmap", "unroll", "loop"):
        yield f"losses, {mode}", functools.partial(of_losses, mode, False)
        yield f"encoder, {mode}", functools.partial(of_encoder, mode, False)
        yield f"batches, {mode}", functools.partial(of_batches, mode)
    for mode in ("unroll", "loop"):
        yield f"losses, stream, {mode}", functools.partial(of_losses, mode, True)
        yield f"encoder, stream, {mode}", functools.partial(of_encoder, mode, True)


def task_grads(mesh, params, batch):
    """Losses and gradients of all engine functions, in one program."""

    @functools.partial(jax.jit, compiler_options=QUICK)
    def all_of_them(params, x, y):
        found = {}
        for name, fun in engines(mesh):
            values, grads = fun(params, x, y)
            stacked = grads.stacked() if isinstance(grads, dbmtl.PendingTaskGrads) else grads
            found[name] = (values, stacked)
        return found

    if mesh is None:
        return jax.device_get(all_of_them(params, *batch))
    with jax.set_mesh(mesh):
        return jax.device_get(all_of_them(*put(mesh, params, *batch)))
