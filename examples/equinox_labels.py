"""DB-MTL for an Equinox model with a shared encoder and one head for each named task.

The data are synthetic and made here: three targets of the same kind, whose errors are measured in
units that make the losses differ by a factor of a hundred million. With equal weighting the encoder
hears the loudest task only; with DB-MTL it hears all three, and learns that one a little slower.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import dbmtl_jax as dbmtl

UNITS = {"metres": 100.0, "kelvin": 1.0, "tonnes": 0.01}  # of the errors of each task
BATCH = 64


class Model(eqx.Module):
    """An encoder that all tasks share, with a linear head for each."""

    encoder: eqx.nn.MLP
    heads: dict[str, eqx.nn.Linear]

    def __init__(self, key):
        keys = jax.random.split(key, 1 + len(UNITS))
        self.encoder = eqx.nn.MLP(4, 8, 32, depth=1, final_activation=jnp.tanh, key=keys[0])
        self.heads = {n: eqx.nn.Linear(8, 1, key=k) for n, k in zip(UNITS, keys[1:], strict=True)}

    def __call__(self, x):
        """Maps one input [4] to one number for each task."""
        z = self.encoder(x)
        return {name: head(z)[0] for name, head in self.heads.items()}


def label_of(path):
    """Labels the parameter at a path such as "heads/kelvin/weight" with the name of its task."""
    part, name, *_ = path.split("/")
    return name if part == "heads" else "shared"


def make_data(seed, size):
    """Makes synthetic data: each target is a wave along a direction of x."""
    ways = np.random.default_rng(20).normal(size=(3, 4))
    x = np.random.default_rng(seed).normal(size=(size, 4))
    y = {name: np.sin(x @ way) for name, way in zip(UNITS, ways, strict=True)}
    return jax.tree.map(np.float32, (x, y))


def losses_of(params, static, x, y):
    """Returns the mean squared error of each task by name, in its own unit."""
    outputs = jax.vmap(eqx.combine(params, static))(x)
    return {name: jnp.mean((unit * (outputs[name] - y[name])) ** 2) for name, unit in UNITS.items()}


def train(method, steps):
    """Trains a new model; returns it, its optimizer's state and the losses of every step."""
    # The activation is a leaf of the model that has no gradient: only arrays are parameters.
    params, static = eqx.partition(Model(jax.random.key(0)), eqx.is_inexact_array)
    labels = dbmtl.labels_by_path(label_of)  # the same for the engine and the method
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    tx = dbmtl.chain(method(tuple(UNITS), labels=labels), adam)

    @jax.jit
    def step(params, opt_state, x, y):
        fun = dbmtl.value_and_task_grads(losses_of, labels=labels, stream=True)
        losses, grads = fun(params, static, x, y)
        updates, opt_state = tx.update(grads, opt_state, params, losses=losses)
        return optax.apply_updates(params, updates), opt_state, losses

    opt_state, history = tx.init(params), []
    for k in range(steps):
        params, opt_state, losses = step(params, opt_state, *make_data(seed=k, size=BATCH))
        history.append(losses)
    return params, static, opt_state, history


def main(steps=200):
    """Returns each method's test errors by task, divided by the variances of the targets."""
    x, y = make_data(seed=2**31, size=512)
    errors = {}
    for name, method in (("ew", dbmtl.ew), ("db_mtl", dbmtl.db_mtl)):
        params, static, opt_state, history = train(method, steps)
        losses = losses_of(params, static, x, y)
        errors[name] = {t: float(losses[t] / jnp.var(UNITS[t] * y[t])) for t in UNITS}
        weights = dbmtl.diagnostics(opt_state, names=tuple(UNITS)).weights
        print(name)
        for t in UNITS:
            print(f"  {t}: loss {history[0][t]:.2e} -> {history[-1][t]:.2e},", end=" ")
            print(f"weight {weights[t]:.2f}, test error / variance {errors[name][t]:.2f}")
    return errors


if __name__ == "__main__":
    main()
