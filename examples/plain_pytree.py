"""DB-MTL on a plain tree of arrays: two tasks, one shared layer, a head each.

Run with `python examples/plain_pytree.py`.
"""

import jax
import jax.numpy as jnp
import optax

import dbmtl_jax as dbmtl

LABELS = {"encoder": "shared", "heads": [0, 1]}


def init(key):
    keys = jax.random.split(key, 3)
    return {
        "encoder": jax.random.normal(keys[0], (8, 16)) / 8**0.5,
        "heads": [jax.random.normal(k, (16, 1)) / 4 for k in keys[1:]],
    }


def loss_fn(params, x):
    """Two regressions, the second with a loss a thousand times larger."""
    hidden = jnp.tanh(x @ params["encoder"])
    first, second = ((hidden @ head)[:, 0] for head in params["heads"])
    return jnp.mean((first - jnp.sin(x[:, 0])) ** 2), 1000 * jnp.mean((second - x[:, 1]) ** 2)


def main(steps=300):
    params = init(jax.random.key(0))
    tx = dbmtl.chain(dbmtl.db_mtl(num_tasks=2, labels=LABELS), optax.adam(1e-2))
    opt_state = tx.init(params)

    @jax.jit
    def step(params, opt_state, key):
        x = jax.random.normal(key, (64, 8))
        losses, grads = dbmtl.value_and_task_grads(loss_fn, labels=LABELS, stream=True)(params, x)
        updates, opt_state = tx.update(grads, opt_state, params, losses=losses)
        return optax.apply_updates(params, updates), opt_state, losses

    for k in range(steps):
        params, opt_state, losses = step(params, opt_state, jax.random.key(k))
        if k % 100 == 0 or k == steps - 1:
            print(f"step {k}: losses {losses}, weights {dbmtl.diagnostics(opt_state).weights}")
    return losses


if __name__ == "__main__":
    main()
