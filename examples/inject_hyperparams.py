"""DB-MTL whose options are numbers in the state: β and the learning rate are read and set at will.

`optax.inject_hyperparams` keeps the numbers of a factory in the state of the optimizer, so that a
program that is compiled once can train with any of them. Here one compiled step trains with several
β side by side (`jax.vmap` over the states), and halfway the learning rate of all is divided by ten.
"""

import functools

import jax
import jax.numpy as jnp
import optax

import dbmtl_jax as dbmtl

BETAS = jnp.array([0.0, 0.5, 0.9, 0.99])


def loss_fn(params, x, noise):
    """Two regressions on noisy targets, the second with a loss a thousand times larger."""
    hidden = jnp.tanh(x @ params["encoder"])
    first, second = (hidden @ params["heads"] + noise).T
    return jnp.mean((first - jnp.sin(x[:, 0])) ** 2), 1000 * jnp.mean((second - x[:, 1]) ** 2)


# `num_tasks` decides about shapes, so it stays a Python number.
METHOD = optax.inject_hyperparams(dbmtl.db_mtl, static_args=("num_tasks",))
ADAM = optax.inject_hyperparams(optax.adam)
TX = dbmtl.chain(METHOD(num_tasks=2, beta=0.0), ADAM(learning_rate=1e-2))


def init(beta):
    """The same parameters for every β."""
    keys = jax.random.split(jax.random.key(0))
    params = {
        "encoder": jax.random.normal(keys[0], (8, 16)) / 8**0.5,
        "heads": jax.random.normal(keys[1], (16, 2)) / 4,
    }
    return params, optax.tree.set(TX.init(params), beta=beta)


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None))
def step(run, key):
    params, opt_state = run
    draw, disturb = jax.random.split(key)
    x, noise = jax.random.normal(draw, (32, 8)), 0.1 * jax.random.normal(disturb, (32, 2))
    losses, grads = dbmtl.value_and_task_grads(loss_fn)(params, x, noise)
    updates, opt_state = TX.update(grads, opt_state, params, losses=losses)
    return (optax.apply_updates(params, updates), opt_state), jnp.stack(losses)


def main(steps=600):
    """Returns the losses [β, T] on data without noise."""
    runs = jax.vmap(init)(BETAS)
    for k in range(steps):
        if k == steps // 2:
            runs = runs[0], optax.tree.set(runs[1], learning_rate=jnp.full(len(BETAS), 1e-3))
        runs, _ = step(runs, jax.random.key(k))
    x = jax.random.normal(jax.random.key(steps), (1024, 8))
    losses = jnp.stack(jax.vmap(loss_fn, in_axes=(0, None, None))(runs[0], x, 0.0), axis=1)
    for beta, rate, row in zip(
        optax.tree.get(runs[1], "beta"),
        optax.tree.get(runs[1], "learning_rate"),
        losses,
        strict=True,
    ):
        print(f"beta {beta:.2f}, learning rate {rate:.0e}: losses {row[0]:.4f} and {row[1]:.2f}")
    return losses


if __name__ == "__main__":
    main()
