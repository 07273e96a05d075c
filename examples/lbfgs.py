"""L-BFGS with a line search behind a method, on two losses of very different size.

A line search asks whether a step lowers *a function*. The sum of the losses' logarithms is one, and
its gradient is what `scale_by_log_loss` and `sum_tasks` make of the tasks' gradients. The losses
differ by a factor of a hundred million: with their plain sum L-BFGS never gets to the second task.
(The update of a gradient balancer such as `db_mtl` is the gradient of no function, so a line search
behind one may find no step.)
"""

import jax
import jax.numpy as jnp
import optax

import dbmtl_jax as dbmtl

UNITS = jnp.array([100.0, 0.01])  # of the errors of the two tasks
X = jnp.pad(jax.random.normal(jax.random.key(1), (128, 4)), ((0, 0), (0, 1)), constant_values=1)
Y = jnp.stack([jnp.sin(2 * X[:, 0]), jnp.cos(X[:, 1] + X[:, 2])], axis=1)
RULES = {
    # what scales the tasks' gradients, and the function that the scaled sum is the gradient of
    "sum of losses": ((), lambda losses: sum(losses)),
    "sum of logarithms": (
        (dbmtl.scale_by_log_loss(2),),
        lambda losses: sum(jnp.log(loss + 1e-8) for loss in losses),
    ),
}


def init(key):
    keys = jax.random.split(key)
    return {
        "encoder": jax.random.normal(keys[0], (5, 16)) / 2,
        "heads": jax.random.normal(keys[1], (16, 2)) / 4,
    }


def losses_of(params):
    """The mean squared error of each task, in its own unit."""
    errors = jnp.tanh(X @ params["encoder"]) @ params["heads"] - Y
    return [jnp.mean((unit * row) ** 2) for unit, row in zip(UNITS, errors.T, strict=True)]


def minimize(parts, merge, steps):
    """The losses [T] after some steps of L-BFGS on `merge` of the losses."""

    def value_fn(params):
        return merge(losses_of(params))

    # L-BFGS refuses keywords that `value_fn` does not know: the tasks' are kept from it.
    lbfgs = dbmtl.without_task_args(optax.lbfgs())
    tx = dbmtl.chain(*parts, dbmtl.sum_tasks(2), lbfgs)

    def step(carry, _):
        params, opt_state = carry
        losses, task_grads = dbmtl.value_and_task_grads(losses_of)(params)
        value, grad = jax.value_and_grad(value_fn)(params)
        updates, opt_state = tx.update(
            task_grads, opt_state, params, losses=losses, value=value, grad=grad, value_fn=value_fn
        )
        return (optax.apply_updates(params, updates), opt_state), None

    params = init(jax.random.key(0))
    run = jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps)[0])
    return jnp.stack(losses_of(run((params, tx.init(params)))[0]))


def main(steps=200):
    """Returns each rule's errors [T], relative to the variances of the targets."""
    errors = {}
    for name, (parts, merge) in RULES.items():
        losses = minimize(parts, merge, steps)
        errors[name] = losses / (UNITS**2 * jnp.var(Y, axis=0))
        print(f"{name:18} error / variance of each task:", *(f"{e:.1e}" for e in errors[name]))
    return errors


if __name__ == "__main__":
    main()
