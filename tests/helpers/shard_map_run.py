"""Every engine function inside of `jax.shard_map`, as `python -m tests.helpers.shard_map_run`.

Prints as JSON by how much updates differ from those of one device.  A process of its own: how many
devices a CPU is must be known before JAX starts.
"""

import functools
import json

import jax
from jax.sharding import PartitionSpec as P

import dbmtl_jax as dbmtl
from tests.helpers.many_devices import T, error, losses, network

LABELS = {"w": "shared", "b": "shared", "v": "shared"}
METHODS = ("ew", "uw", "db_mtl", "pcgrad", "mtadam")


def encode(params, x, y):
    return jax.numpy.tanh(x @ params["w"] + params["b"][None])


def head(task):
    scale = (1.0, 0.1, 5.0)[task]
    return lambda v, z, x, y: jax.numpy.mean((z @ v - y[:, task]) ** 2) * scale


def of_losses(params, x, y, stream, inside):
    def fun(p):
        return jax.lax.pmean(losses(p, x, y), "data") if inside else losses(p, x, y)

    return dbmtl.value_and_task_grads(fun, stream=stream)(params)


def of_encoder(params, x, y, stream, inside):
    def of_head(task):
        def fun(v, z, x, y):
            value = head(task)(v, z, x, y)
            return jax.lax.pmean(value, "data") if inside else value

        return fun

    heads = [of_head(task) for task in range(T)]
    pair = ({"w": params["w"], "b": params["b"]}, [params["v"][:, t] for t in range(T)])
    return dbmtl.encoder_value_and_task_grads(encode, heads, stream=stream)(pair, x, y)


def of_batches(params, x, y, stream, inside):
    def fun(p, task):
        value = losses(p, x, y)[task]
        return jax.lax.pmean(value, "data") if inside else value

    return dbmtl.per_task_value_and_grads(fun)(params, jax.numpy.arange(T))


ENGINES = {"losses": of_losses, "encoder": of_encoder, "batches": of_batches}


def step(engine, name, stream, inside, average, x, y):
    params, _ = network()
    labels = ("shared", list(range(T))) if engine == "encoder" else LABELS
    if engine == "encoder":
        params_of_tx = (
            {"w": params["w"], "b": params["b"]},
            [params["v"][:, t] for t in range(T)],
        )
    else:
        params_of_tx = params
    tx = dbmtl.METHODS[name](T, labels=labels)
    values, grads = ENGINES[engine](params, x, y, stream, inside)
    if average:
        values, grads = jax.lax.pmean((values, grads), "data")
    return tx.update(grads, tx.init(params_of_tx), params_of_tx, losses=values)[0]


def main():
    jax.config.update("jax_num_cpu_devices", 4)
    _, ((x, y), *_) = network()
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    found = {}
    for engine in ENGINES:
        for name in METHODS if engine == "losses" else ("db_mtl", "pcgrad"):
            expected = jax.jit(functools.partial(step, engine, name, False, False, False))(x, y)
            for recipe, options in {
                "after": (False, False, True),
                "inside": (False, True, False),
                "inside, stream": (True, True, False),
            }.items():
                if engine == "batches" and options[0]:
                    continue
                for check_vma in (True, False) if recipe == "after" else (True,):
                    mapped = jax.shard_map(
                        functools.partial(step, engine, name, *options),
                        mesh=mesh,
                        in_specs=(P("data"), P("data")),
                        out_specs=P(),
                        check_vma=check_vma,
                    )
                    key = f"{engine}, {name}, {recipe}, check_vma={check_vma}"
                    found[key] = error(jax.jit(mapped)(x, y), expected)
    refused = jax.shard_map(
        functools.partial(step, "losses", "ew", True, False, False),
        mesh=mesh,
        in_specs=(P("data"), P("data")),
        out_specs=P(),
    )
    try:
        jax.eval_shape(refused, x, y)
    except ValueError as message:
        found["refused"] = str(message)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
