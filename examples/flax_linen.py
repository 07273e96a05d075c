"""DB-MTL with a Flax Linen module: parameters are labelled by the names of their submodules.

Run with `python examples/flax_linen.py`.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import dbmtl_jax as dbmtl


class Network(nn.Module):
    num_tasks: int

    @nn.compact
    def __call__(self, x):
        hidden = nn.tanh(nn.Dense(32, name="encoder")(x))
        return [nn.Dense(1, name=f"head{t}")(hidden)[:, 0] for t in range(self.num_tasks)]


def labels(params):
    """The task of every submodule: the digit behind "head"."""
    return {
        name: int(name.removeprefix("head")) if name.startswith("head") else "shared"
        for name in params
    }


def main(steps=300):
    network = Network(num_tasks=2)
    params = network.init(jax.random.key(0), jnp.zeros((1, 8)))["params"]

    def loss_fn(params, x):
        first, second = network.apply({"params": params}, x)
        return jnp.mean((first - x[:, 0] ** 2) ** 2), jnp.mean((second - jnp.sin(x[:, 1])) ** 2)

    tx = dbmtl.chain(dbmtl.db_mtl(num_tasks=2, labels=labels), optax.adam(1e-2))
    opt_state = tx.init(params)

    @jax.jit
    def step(params, opt_state, key):
        x = jax.random.normal(key, (64, 8))
        losses, grads = dbmtl.value_and_task_grads(loss_fn, labels=labels)(params, x)
        updates, opt_state = tx.update(grads, opt_state, params, losses=losses)
        return optax.apply_updates(params, updates), opt_state, losses

    for k in range(steps):
        params, opt_state, losses = step(params, opt_state, jax.random.key(k))
        if k % 100 == 0 or k == steps - 1:
            print(f"step {k}: losses {losses}")
    return losses


if __name__ == "__main__":
    main()
