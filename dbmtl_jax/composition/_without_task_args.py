"""For transformations that refuse arguments which they do not know."""

import optax


def without_task_args(
    tx: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Keeps `losses` and `task_mask` from a transformation that stands behind a method.

    Line searches (`optax.lbfgs`, `optax.scale_by_backtracking_linesearch`) pass every further
    argument of `update` on to the function that they minimise, and raise an error where it does not
    know one.

    Args:
      tx: the transformation, a line search for example.

    Returns:
      The same transformation, which ignores these two arguments.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> losses_of = lambda w: jnp.stack([jnp.sum((w - 1) ** 2) + 1, 100 * jnp.sum(w**2) + 1])
      >>> total = lambda w: jnp.sum(jnp.log(losses_of(w)))
      >>> tx = dbmtl.chain(
      ...   dbmtl.scale_by_log_loss(2), dbmtl.sum_tasks(2), dbmtl.without_task_args(optax.lbfgs())
      ... )
      >>> w = jnp.ones(2)
      >>> losses, grads = dbmtl.value_and_task_grads(losses_of)(w)
      >>> logs = jnp.sum(grads / losses[:, None], axis=0)  # the gradient of the total
      >>> updates, _ = tx.update(
      ...   grads, tx.init(w), w, losses=losses, value=total(w), grad=logs, value_fn=total
      ... )
      >>> bool(total(w + updates) < total(w))
      True
    """
    inner = optax.with_extra_args_support(tx)

    def update(
        updates, state, params=None, *, losses=None, task_mask=None, other_grads=None, **extra_args
    ):
        return inner.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(inner.init, update)
