"""DB-MTL next to equal weighting on a Flax NNX model with BatchNorm and Dropout.

The data are synthetic and made here: three targets of the same kind, whose errors are measured in
units that make the losses differ by a factor of a hundred million. With equal weighting the encoder
hears the loudest task only; with DB-MTL it hears all three.
"""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import dbmtl_jax as dbmtl
from dbmtl_jax import nnx as mtl

UNITS = np.array([100.0, 1.0, 0.01])  # of the errors of each task
BATCH = 64
# The scale and bias of the batch normalisation lie in the encoder, so they are shared, too.
LABELS = {"encoder": "shared", "heads": {0: 0, 1: 1, 2: 2}}


class Model(nnx.Module):
    """An encoder that all tasks share, with a linear head for each."""

    def __init__(self, rngs: nnx.Rngs):
        self.encoder = nnx.Sequential(
            nnx.Linear(4, 32, rngs=rngs),
            nnx.BatchNorm(32, rngs=rngs),
            nnx.relu,
            nnx.Dropout(0.05, rngs=rngs),
            nnx.Linear(32, 8, rngs=rngs),
        )
        self.heads = nnx.List([nnx.Linear(8, 1, rngs=rngs) for _ in UNITS])

    def __call__(self, x):
        """Runs the encoder once for all tasks: one dropout mask, one set of batch statistics."""
        z = nnx.tanh(self.encoder(x))
        return [head(z)[:, 0] for head in self.heads]


def make_data(seed, size):
    """Makes synthetic data: each target is a wave along a direction of x."""
    ways = np.random.default_rng(10).normal(size=(4, 3))
    x = np.random.default_rng(seed).normal(size=(size, 4))
    return jnp.array(x, jnp.float32), jnp.array(np.sin(x @ ways), jnp.float32)


def losses_of(model, x, y):
    """Returns a list of scalars, so that a NaN of one task cannot reach another's gradient."""
    return [jnp.mean((UNITS[t] * (z - y[:, t])) ** 2) for t, z in enumerate(model(x))]


def train(method, steps):
    """Trains a new model; returns it with its optimizer and the losses of every step."""
    model = Model(nnx.Rngs(0))
    # Adam stands behind the method, as it takes gradients that are merged already.
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    tx = dbmtl.chain(method(len(UNITS), labels=LABELS), adam)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    losses_and_grads = mtl.value_and_task_grads(losses_of, labels=LABELS, stream=True)

    @nnx.jit
    def step(model, optimizer, x, y):
        losses, grads = losses_and_grads(model, x, y)
        optimizer.update(model, grads, losses=losses)  # the logarithm needs the losses
        return losses

    x, y = make_data(seed=1, size=16 * BATCH)
    batches = [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    history = [step(model, optimizer, *batches[k % len(batches)]) for k in range(steps)]
    return model, optimizer, np.array(history)


def main(steps=200):
    """Returns each method's test errors [3], divided by the variances of the targets."""
    x, y = make_data(seed=2, size=512)
    errors = {}
    for name, method in (("ew", dbmtl.ew), ("db_mtl", dbmtl.db_mtl)):
        model, optimizer, losses = train(method, steps)
        model.eval()  # no dropout, and the running averages of the batch statistics
        variances = np.var(UNITS * np.asarray(y), axis=0)
        errors[name] = np.array(nnx.jit(losses_of)(model, x, y)) / variances
        print(f"{name}: losses of the first step {losses[0]}, of the last {losses[-1]}")
        print(f"  weights in the last step {dbmtl.diagnostics(optimizer).weights}")
        print(f"  test error / variance, where 1 is a useless model: {errors[name]}")
    return errors


if __name__ == "__main__":
    np.set_printoptions(formatter={"float": "{:.3g}".format})
    main()
