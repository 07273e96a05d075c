"""A training step for any network and method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.methods import Gradients
from benchmarks.problems.problem import Model, Variables
from benchmarks.settings import TrainConfig


class TrainState(NamedTuple):
    """The state that a training step changes."""

    params: Any
    batch_stats: Any
    opt_state: Any
    key: jax.Array  # PRNG key of the next step, for dropout

    @property
    def variables(self) -> Variables:
        """The current parameters and batch statistics."""
        return self.params, self.batch_stats


def make_update(
    model: Model,
    method: optax.GradientTransformationExtraArgs | None,
    optimizer: optax.GradientTransformation,
    gradients: Gradients = "stacked",
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Makes the functions (init, step) of training.

    Args:
      model: network with its losses.
      method: method of `dbmtl_jax.METHODS` that combines the task gradients; None: the gradient of
        the sum of the losses, in one backward pass; of independent networks that is the gradients
        of all of them.
      optimizer: optimizer after the method, without a learning rate.
      gradients: how the method gets the task gradients; stacked if the model has none of the
        wanted kind.

    Returns:
      `init(params, batch_stats, key) -> TrainState` and `step(state, batch, learning_rate
      [num_models]) -> (state, losses [T])`.  With "halves" the batch is a pair of batches.
    """
    if model.independent == "listed":
        optimizer = _of_each(optimizer)
    tx = optimizer if method is None else optax.chain(method, optimizer)
    kinds = {
        "pending": model.pending_task_grads,
        "representation": model.representation_task_grads,
    }
    task_grads = kinds.get(gradients) or model.task_grads

    def of_one(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        """Losses, new batch statistics, gradients, and further arguments of the method."""
        (losses, batch_stats), grads = task_grads(params, batch_stats, batch, key)
        return losses, batch_stats, grads, {}

    def of_halves(params: Any, batch_stats: Any, batches: Any, key: jax.Array) -> Any:
        first, second = jax.random.split(key)
        losses, batch_stats, grads, _ = of_one(params, batch_stats, batches[0], first)
        others, batch_stats, other_grads, _ = of_one(params, batch_stats, batches[1], second)
        return (losses + others) / 2, batch_stats, grads, {"other_grads": [other_grads]}

    gradients_of = of_halves if gradients == "halves" else of_one

    def init(params: Any, batch_stats: Any, key: jax.Array) -> TrainState:
        return TrainState(params, batch_stats, tx.init(params), key)

    def step(state: TrainState, batch: Any, learning_rate: jax.Array) -> Any:
        params, batch_stats, opt_state, key = state
        key, own = jax.random.split(key)
        if optax.tree.get_all_with_path(opt_state, "learning_rate"):  # of learnt weights
            opt_state = optax.tree.set(opt_state, learning_rate=learning_rate[0])
        if method is None and not model.independent:

            def total(params):
                losses, batch_stats = model.losses(params, state.batch_stats, batch, own)
                return losses.sum(), (losses, batch_stats)

            (_, (losses, batch_stats)), grads = jax.value_and_grad(total, has_aux=True)(params)
            updates, opt_state = tx.update(grads, opt_state, params)
        else:
            losses, batch_stats, grads, extra = gradients_of(params, batch_stats, batch, own)
            if method is not None:
                extra |= {"losses": losses}
            updates, opt_state = tx.update(grads, opt_state, params, **extra)
        rates = per_model(model, learning_rate, updates)
        params = jax.tree.map(lambda p, u, rate: p - rate * u, params, updates, rates)
        new = TrainState(params, batch_stats, opt_state, key)
        return new if model.active is None else _where(model.active(batch), new, state), losses

    return init, step


def _of_each(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer for a list of networks, with a state and a count of steps for each."""

    def init(params: Any) -> Any:
        return [optimizer.init(own) for own in params]

    def update(grads: Any, states: Any, params: Any = None) -> Any:
        both = [optimizer.update(*own) for own in zip(grads, states, params, strict=True)]
        return [updates for updates, _ in both], [state for _, state in both]

    return optax.GradientTransformation(init, update)


def _where(active: jax.Array, new: TrainState, old: TrainState) -> TrainState:
    """The new state of the listed networks that are active [T], and the old one of the others."""

    def choose(news: Any, olds: Any) -> Any:
        return [
            jax.tree.map(lambda a, b, on=on: jnp.where(on, a, b), *own)
            for on, *own in zip(active, news, olds, strict=True)
        ]

    return TrainState(
        choose(new.params, old.params),
        choose(new.batch_stats, old.batch_stats),
        choose(new.opt_state, old.opt_state),
        new.key,
    )


def per_model(model: Model, values: jax.Array, tree: Any) -> Any:
    """Expands values [num_models] to a tree like `tree`, with the value of each array's model."""
    if model.independent == "stacked":
        return jax.tree.map(lambda x: values.reshape(values.shape + (1,) * (x.ndim - 1)), tree)
    if model.independent == "listed":
        return [jax.tree.map(lambda _, v=v: v, own) for v, own in zip(values, tree, strict=True)]
    return jax.tree.map(lambda _: values[0], tree)


def adam(config: TrainConfig) -> optax.GradientTransformation:
    """Adam without a learning rate; as in PyTorch, weight decay is added to the gradient."""
    if not config.weight_decay:
        return optax.scale_by_adam()
    return optax.chain(optax.add_decayed_weights(config.weight_decay), optax.scale_by_adam())


def halves(arrays: Any, axis: int) -> list[Any]:
    """The arrays of two batches, of every other row of one; a single row is in both."""

    def part(array: jax.Array, first: int) -> jax.Array:
        if array.ndim <= axis or array.shape[axis] < 2:
            return array
        return jax.lax.slice_in_dim(array, first, None, stride=2, axis=axis)

    return [jax.tree.map(lambda array, first=first: part(array, first), arrays) for first in (0, 1)]
