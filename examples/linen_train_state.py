"""DB-MTL with Flax Linen and a `TrainState`: the exact method next to a cheap form of it.

The data are synthetic and made here: three targets of the same kind, whose errors are measured in
units that make the losses differ by a factor of a hundred million. The cheap form computes the
weights of DB-MTL in every tenth step; the steps in between take one backward pass.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

import dbmtl_jax as dbmtl

UNITS = np.array([100.0, 1.0, 0.01])  # of the errors of each task
BATCH = 64
LABELS = dbmtl.labels_by_path(lambda path: int(path[5]) if path.startswith("head_") else "shared")
METHODS = {
    "db_mtl": dbmtl.db_mtl(3, labels=LABELS),
    # average="norms" keeps no average of the gradients, which `refresh_weights` would not sum.
    "cheap": dbmtl.refresh_weights(dbmtl.db_mtl(3, average="norms", labels=LABELS), every=10),
}


class Model(nn.Module):
    """An encoder that all tasks share, with a linear head for each."""

    @nn.compact
    def __call__(self, x):
        """Maps inputs [B, 4] to a list of outputs [B], one for each task."""
        z = nn.relu(nn.Dense(32)(x))
        z = nn.tanh(nn.Dense(8)(z))
        return [nn.Dense(1, name=f"head_{t}")(z)[:, 0] for t in range(3)]


class MultiTaskTrainState(TrainState):  # from the library's guide
    """A train state that tells the method the losses, which `apply_gradients` would drop."""

    def apply_task_gradients(self, grads, **extra):
        """Takes a step, with `losses` and, if need be, `task_mask`."""
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params, **extra)
        params = optax.apply_updates(self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state)


def make_data(seed, size):
    """Makes synthetic data: each target is a wave along a direction of x."""
    ways = np.random.default_rng(10).normal(size=(4, 3))
    x = np.random.default_rng(seed).normal(size=(size, 4))
    return np.float32(x), np.float32(np.sin(x @ ways))


def losses_of(params, x, y):
    """Returns the mean squared error of each task, in its own unit."""
    outputs = Model().apply({"params": params}, x)
    return [jnp.mean((UNITS[t] * (z - y[:, t])) ** 2) for t, z in enumerate(outputs)]


@jax.jit
def step(state, x, y):
    """Takes one step; with `stream=True` a method computes only the gradients that it reads."""
    fun = dbmtl.value_and_task_grads(losses_of, labels=LABELS, stream=True)
    losses, grads = fun(state.params, x, y)
    return state.apply_task_gradients(grads, losses=losses), losses


def train(method, steps):
    """Trains a new model; returns its state and the losses of every step."""
    tx = dbmtl.chain(method, optax.adam(optax.cosine_decay_schedule(1e-2, steps)))
    params = jax.jit(Model().init)(jax.random.key(0), jnp.ones((1, 4)))["params"]
    state = MultiTaskTrainState.create(apply_fn=Model().apply, params=params, tx=tx)
    history = []
    for k in range(steps):
        state, losses = step(state, *make_data(k, BATCH))
        history.append(losses)
    return state, history


def main(steps=150):
    """Returns each method's test errors [3], divided by the variances of the targets."""
    x, y = make_data(2**31, 512)
    errors = {}
    for name, method in METHODS.items():
        state, losses = train(method, steps)
        errors[name] = np.array(jax.jit(losses_of)(state.params, x, y)) / np.var(UNITS * y, axis=0)
        print(f"{name}: losses of the first step {losses[0]}, of the last {losses[-1]}")
        print(f"  weights {dbmtl.diagnostics(state.opt_state).weights}")
        print(f"  test error / variance, where 1 is a useless model: {errors[name]}")
    return errors


if __name__ == "__main__":
    np.set_printoptions(formatter={"float": "{:.3g}".format})
    main()
