"""DB-MTL with a Flax NNX module: hard parameter sharing, each head differentiated once.

Run with `python examples/flax_nnx.py`.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import dbmtl_jax as dbmtl

NUM_TASKS = 3


class Encoder(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(8, 32, rngs=rngs), nnx.Linear(32, 32, rngs=rngs)])

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.tanh(layer(x))
        return x


def main(steps=300):
    rngs = nnx.Rngs(0)
    encoder = nnx.split(Encoder(rngs))
    heads = [nnx.split(nnx.Linear(32, 1, rngs=rngs)) for _ in range(NUM_TASKS)]
    params = encoder[1], [state for _, state in heads]
    labels = "shared", list(range(NUM_TASKS))

    def encode(state, x):
        return nnx.merge(encoder[0], state)(x)

    def head_loss(task):
        def loss(state, hidden, x):
            prediction = nnx.merge(heads[task][0], state)(hidden)[:, 0]
            return jnp.mean((prediction - 10.0**task * jnp.sin(x[:, task])) ** 2)

        return loss

    losses_and_grads = dbmtl.encoder_value_and_task_grads(
        encode, [head_loss(task) for task in range(NUM_TASKS)]
    )
    tx = dbmtl.chain(dbmtl.db_mtl(NUM_TASKS, labels=labels), optax.adam(1e-2))
    opt_state = tx.init(params)

    @jax.jit
    def step(params, opt_state, key):
        x = jax.random.normal(key, (64, 8))
        losses, grads = losses_and_grads(params, x)
        updates, opt_state = tx.update(grads, opt_state, params, losses=losses)
        return optax.apply_updates(params, updates), opt_state, losses

    for k in range(steps):
        params, opt_state, losses = step(params, opt_state, jax.random.key(k))
        if k % 100 == 0 or k == steps - 1:
            print(f"step {k}: losses {losses}")
    return losses


if __name__ == "__main__":
    main()
