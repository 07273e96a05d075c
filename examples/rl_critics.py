"""Critics of five rewards that share a small network, learnt by temporal differences.

A random walk on a ring of 24 states pays five rewards, whose sizes differ by a factor of ten
thousand, as the rewards of different games do. The critic of a reward is a head that estimates its
value, the discounted sum of what is yet to come. Its target r + γ V(s') is a constant, with a copy
of the parameters in V that follows slowly.

The true values are known here, from a linear system. Printed is each critic's error relative to the
variance of the true values.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dbmtl_jax as dbmtl

STATES, GAMMA = 24, 0.8
SIZES = np.float32([100.0, 10.0, 1.0, 0.1, 0.01])  # of the rewards
LABELS = {"encoder": "shared", "heads": [0, 1, 2, 3, 4]}
FEATURES = np.random.default_rng(0).normal(size=(STATES, 12)).astype(np.float32)
# Each reward is paid around another place of the ring.
PLACES = np.arange(len(SIZES)) * STATES / len(SIZES)
ANGLES = 2 * np.pi * (np.arange(STATES) - PLACES[:, None]) / STATES
REWARDS = np.float32(SIZES[:, None] * np.exp(4 * (np.cos(ANGLES) - 1)))  # [T, STATES]


def true_values():
    """The values [T, STATES]: V = r + γ P V, where P steps to either neighbour."""
    move = (np.roll(np.eye(STATES), 1, axis=1) + np.roll(np.eye(STATES), -1, axis=1)) / 2
    return np.linalg.solve(np.eye(STATES) - GAMMA * move, REWARDS.T).T


def init(key, width=12):
    keys = jax.random.split(key, 1 + len(SIZES))
    first = jax.random.normal(keys[0], (FEATURES.shape[1], width)) / FEATURES.shape[1] ** 0.5
    # Last layers that begin at zero: every critic begins with the value 0, whatever its unit.
    return {"encoder": [first, jnp.zeros(width)], "heads": [jnp.zeros(width) for _ in SIZES]}


def values(params, states):
    """The critics' values [T, n], each in the unit of its reward."""
    weight, bias = params["encoder"]
    hidden = jnp.tanh(jnp.asarray(FEATURES)[states] @ weight + bias[None])
    return jnp.stack([size * (hidden @ w) for size, w in zip(SIZES, params["heads"], strict=True)])


def losses_of(params, slow, states, next_states):
    """The mean squared temporal differences [T]."""
    targets = jnp.asarray(REWARDS)[:, states] + GAMMA * values(slow, next_states)
    differences = values(params, states) - jax.lax.stop_gradient(targets)
    return [jnp.mean(row**2) for row in differences]


def train(method, steps, batch=64, rate=3e-3):
    tx = dbmtl.chain(method(len(SIZES), labels=LABELS), optax.adam(rate))
    params = slow = init(jax.random.key(0))

    def step(carry, key):
        params, slow, opt_state = carry
        draw, turn = jax.random.split(key)
        states = jax.random.randint(draw, (batch,), 0, STATES)
        next_states = (states + jax.random.choice(turn, jnp.array([-1, 1]), (batch,))) % STATES
        fun = dbmtl.value_and_task_grads(losses_of, labels=LABELS, stream=True)
        losses, grads = fun(params, slow, states, next_states)
        updates, opt_state = tx.update(grads, opt_state, params, losses=losses)
        params = optax.apply_updates(params, updates)
        slow = optax.incremental_update(params, slow, 0.05)
        return (params, slow, opt_state), None

    keys = jax.random.split(jax.random.key(1), steps)
    run = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0])
    return run((params, slow, tx.init(params)))[0]


def main(steps=2000):
    """Returns each method's errors [T], relative to the variances of the true values."""
    truth, errors = true_values(), {}
    for name, method in (("ew", dbmtl.ew), ("db_mtl", dbmtl.db_mtl)):
        found = np.asarray(values(train(method, steps), np.arange(STATES)))
        errors[name] = np.mean((found - truth) ** 2, axis=1) / np.var(truth, axis=1)
        print(f"{name:7} error / variance:", *(f"{error:.3f}" for error in errors[name]))
    return errors


if __name__ == "__main__":
    main()
