"""DB-MTL with several processes: a batch is divided among all devices, the parameters, too.

Two processes on one machine, in one command:

    for id in 0 1; do python examples/several_processes.py 127.0.0.1:9000 2 $id & done; wait

On a cluster that JAX knows each process is started without arguments: docs/devices.md.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import dbmtl_jax as dbmtl

WIDTH, BATCH = 16, 64
# Of a parameter, which axis of the array is divided along which axis of the mesh.
PLACES = {"encoder": P(None, "devices"), "heads": P()}


def init():
    """The same parameters in every process."""
    random = np.random.default_rng(0)
    return {
        "encoder": random.normal(size=(8, WIDTH)).astype(np.float32) / 8**0.5,
        "heads": random.normal(size=(WIDTH, 2)).astype(np.float32) / 4,
    }


def loss_fn(params, x):
    """Two regressions, the second with a loss a thousand times larger."""
    # Each device computes with its rows of the batch and the whole encoder.
    hidden = jnp.tanh(x @ jax.reshard(params["encoder"], P()))
    first, second = (hidden @ params["heads"]).T
    return jnp.mean((first - jnp.sin(x[:, 0])) ** 2), 1000 * jnp.mean((second - x[:, 1]) ** 2)


def main(steps=300):
    """Every process runs the same program, and reads its own rows of each batch."""
    mesh = jax.make_mesh((jax.device_count(),), ("devices",))
    rows = BATCH // jax.process_count()
    mine = slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)
    tx = dbmtl.chain(dbmtl.db_mtl(num_tasks=2), optax.adam(1e-2))

    @jax.jit
    def step(params, opt_state, x):
        losses, grads = dbmtl.value_and_task_grads(loss_fn)(params, x)
        updates, opt_state = tx.update(grads, opt_state, params, losses=losses)
        return optax.apply_updates(params, updates), opt_state, losses

    with jax.set_mesh(mesh):
        places = {name: NamedSharding(mesh, place) for name, place in PLACES.items()}
        params = jax.device_put(init(), places)
        opt_state = jax.jit(tx.init)(params)
        for k in range(steps):
            x = np.random.default_rng(k).normal(size=(BATCH, 8)).astype(np.float32)[mine]
            x = jax.make_array_from_process_local_data(NamedSharding(mesh, P("devices")), x)
            params, opt_state, losses = step(params, opt_state, x)
            if (k % 100 == 0 or k == steps - 1) and jax.process_index() == 0:
                print(f"step {k} on {jax.device_count()} devices: losses {jnp.stack(losses)}")
    return jax.device_get(losses)


if __name__ == "__main__":
    if sys.argv[1:]:
        coordinator, count, index = sys.argv[1:]
        jax.distributed.initialize(coordinator, int(count), int(index))
    else:
        jax.distributed.initialize()
    main()
