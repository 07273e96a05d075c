"""Soft actor-critic for actions on the scaled simplex, as functions of arrays.

The actor draws u ~ N(mean, std²) and acts with n softmax(u).  A softmax forgets a shift of u and
has no density of its own, so the entropy is that of tanh(u), which keeps u near zero.  An episode
never ends.

Sources: Haarnoja et al., Soft actor-critic algorithms and applications, 2018; the schedule of
batch sizes and steps: Dai et al., Improvable gap balancing for multi-task learning, UAI 2023.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dbmtl_jax.core._types import Array, Count, DTypeLike, Scalar

LOG_STD_RANGE = (-20.0, 2.0)


class Config(NamedTuple):
    """What does not change while the agent learns."""

    hidden_sizes: tuple[int, ...]
    batch_size: int
    learning_rate: Scalar
    discount: Scalar
    polyak: Scalar  # the rate at which the targets follow the critics, per gradient step
    initial_alpha: Scalar  # the first coefficient of the entropy in the reward


class Agent(NamedTuple):
    """Everything that learns.

    A network is one vector: Adam and all else then is a handful of operations, where a tree of
    kernels and biases takes twice as long to compile.
    """

    actor: Array  # observation [n] → mean and log std of u, [2n]
    critics: Array  # two rows: observation and action, [2n] → value
    targets: Array  # slow copies of the critics
    log_alpha: Array
    actor_opt_state: optax.OptState
    critics_opt_state: optax.OptState
    alpha_opt_state: optax.OptState


class Transition(NamedTuple):
    """What the agent saw, its action and reward, and what it saw next; may have leading axes."""

    observation: Array  # [n]
    action: Array  # [n]
    reward: Array
    next_observation: Array  # [n]


class Buffer(NamedTuple):
    """A ring buffer of the last `capacity` transitions."""

    transitions: Transition  # [capacity, ...]
    position: Array  # int32, where the next transition goes
    size: Array  # int32, how many transitions are stored


def init_agent(config: Config, key: Array, n: int, dtype: DTypeLike) -> Agent:
    """An untrained agent with n observations and n actions."""
    keys = jax.random.split(key, 3)
    actor = _init_network(keys[0], _actor_sizes(config, n), dtype)
    critics = jnp.stack([_init_network(k, _critic_sizes(config, n), dtype) for k in keys[1:]])
    log_alpha = jnp.log(jnp.asarray(config.initial_alpha, dtype))
    init = _optimizer(config).init
    # A copy: a state that held one buffer twice could not be donated.
    targets = jnp.copy(critics)
    return Agent(actor, critics, targets, log_alpha, init(actor), init(critics), init(log_alpha))


def init_buffer(capacity: int, n: int, dtype: DTypeLike) -> Buffer:
    """An empty buffer."""

    def zeros(*shape: int) -> Array:
        return jnp.zeros((capacity, *shape), dtype)

    transitions = Transition(zeros(n), zeros(n), zeros(), zeros(n))
    return Buffer(transitions, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def add(buffer: Buffer, transition: Transition, valid: Array) -> Buffer:
    """The buffer with one more transition, if it is `valid`, in the place of the oldest."""
    capacity = buffer.transitions.reward.shape[0]
    # Beyond the end nothing is written.
    place = jnp.where(valid, buffer.position, capacity)

    def write(rows: Array, new: Array) -> Array:
        return rows.at[place].set(new.astype(rows.dtype), mode="drop")

    count = valid.astype(jnp.int32)
    return Buffer(
        jax.tree.map(write, buffer.transitions, transition),
        (buffer.position + count) % capacity,
        jnp.minimum(buffer.size + count, capacity),
    )


def grown(largest: Count, buffer: Buffer) -> Array:
    """From half of `largest` with an empty buffer up to all of it with a full one, 1 at least."""
    fill = buffer.size / buffer.transitions.reward.shape[0]
    return jnp.maximum(jnp.floor(largest * (1 + fill) / 2), 1).astype(jnp.int32)


def propose(config: Config, actor: Array, observations: Array) -> tuple[Array, Array]:
    """Mean and log std of u for observations [B, n], each [B, n]."""
    sizes = _actor_sizes(config, observations.shape[-1])
    mean, log_std = jnp.split(_apply(sizes, actor, observations), 2, axis=-1)
    return mean, jnp.clip(log_std, *LOG_STD_RANGE)


def to_action(u: Array) -> Array:
    """Weights n softmax(u) over the last axis, whose mean is 1."""
    return u.shape[-1] * jax.nn.softmax(u)


def log_density(u: Array, mean: Array, log_std: Array) -> Array:
    """The log-density of tanh(u) where u ~ N(mean, std²), summed over the last axis."""
    normal = jax.scipy.stats.norm.logpdf(u, mean, jnp.exp(log_std))
    # log(1 - tanh²u), in a form that stays finite where tanh(u) rounds to ±1.
    log_slope = 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))
    return jnp.sum(normal - log_slope, axis=-1)


def act(config: Config, actor: Array, observations: Array, noise: Array) -> tuple[Array, Array]:
    """Actions [B, n] and log-densities [B] for standard normal noise [B, n]."""
    mean, log_std = propose(config, actor, observations)
    u = mean + jnp.exp(log_std) * noise
    return to_action(u), log_density(u, mean, log_std)


def critic_values(config: Config, critics: Array, observations: Array, actions: Array) -> Array:
    """Both critics' values, [2, B]."""
    sizes = _critic_sizes(config, observations.shape[-1])
    inputs = jnp.concatenate([observations, actions], axis=-1)
    return jax.vmap(lambda critic: _apply(sizes, critic, inputs)[:, 0])(critics)


def bootstrap(config: Config, agent: Agent, batch: Transition, noise: Array) -> Array:
    """What the critics learn: the reward and the discounted soft value of what follows, [B]."""
    following = batch.next_observation
    actions, log_densities = act(config, agent.actor, following, noise)
    values = jnp.min(critic_values(config, agent.targets, following, actions), axis=0)
    soft = values - jnp.exp(agent.log_alpha) * log_densities
    return batch.reward + config.discount * soft


def gradient_step(
    config: Config, agent: Agent, batch: Transition, shares: Array, noise: Array
) -> Agent:
    """One step of the critics, the actor, α and the targets, in this order.

    Args:
      config: of the agent.
      agent: before.
      batch: transitions with a leading axis B.
      shares: of the transitions in the means, [B], summing to 1.
      noise: standard normal, [2, B, n]: for the actions that follow, and for the current ones.

    Returns:
      The agent after it.
    """
    alpha = jnp.exp(agent.log_alpha)
    wanted = bootstrap(config, agent, batch, noise[0])

    def critics_loss(critics: Array) -> Array:
        values = critic_values(config, critics, batch.observation, batch.action)
        return jnp.sum(shares[None] * (values - wanted[None]) ** 2)

    critics, critics_opt_state = _descend(
        config, jax.grad(critics_loss)(agent.critics), agent.critics_opt_state, agent.critics
    )

    def actor_loss(actor: Array) -> tuple[Array, Array]:
        actions, log_densities = act(config, actor, batch.observation, noise[1])
        values = jnp.min(critic_values(config, critics, batch.observation, actions), axis=0)
        entropy = -jnp.sum(shares * log_densities)
        return -alpha * entropy - jnp.sum(shares * values), entropy

    slope, entropy = jax.grad(actor_loss, has_aux=True)(agent.actor)
    actor, actor_opt_state = _descend(config, slope, agent.actor_opt_state, agent.actor)
    # α falls where the entropy is above its target -n, and rises where it is below.
    log_alpha, alpha_opt_state = _descend(
        config, entropy + batch.action.shape[-1], agent.alpha_opt_state, agent.log_alpha
    )
    targets = optax.incremental_update(critics, agent.targets, config.polyak)
    return Agent(
        actor, critics, targets, log_alpha, actor_opt_state, critics_opt_state, alpha_opt_state
    )


def train(config: Config, agent: Agent, buffer: Buffer, key: Array, steps: Array) -> Agent:
    """`steps` gradient steps, each on transitions drawn from the buffer with replacement.

    With no steps the loop does not run: that costs less under `jax.vmap` than a `lax.cond`, which
    would become a selection between both branches.
    """
    rows = jnp.arange(config.batch_size) < grown(config.batch_size, buffer)
    dtype = buffer.transitions.reward.dtype
    shares = rows.astype(dtype) / jnp.sum(rows).astype(dtype)

    shape = (2, config.batch_size, buffer.transitions.action.shape[-1])

    def body(i: Array, agent: Agent) -> Agent:
        rows_key, noise_key = jax.random.split(jax.random.fold_in(key, i))
        chosen = jax.random.randint(rows_key, shape[1:2], 0, jnp.maximum(buffer.size, 1))
        batch = jax.tree.map(lambda x: x[chosen], buffer.transitions)
        noise = jax.random.normal(noise_key, shape, dtype)
        return gradient_step(config, agent, batch, shares, noise)

    return jax.lax.fori_loop(0, steps, body, agent)


def _optimizer(config: Config) -> optax.GradientTransformation:
    return optax.adam(config.learning_rate)


def _descend(
    config: Config, gradient: Array, opt_state: optax.OptState, params: Array
) -> tuple[Array, optax.OptState]:
    """A step of Adam."""
    # Errors of a reward that is huge but finite overflow, and would stay in the moments for ever.
    usable = jnp.isfinite(jnp.sum(jnp.square(gradient)))
    updates, opt_state = _optimizer(config).update(
        jnp.where(usable, gradient, 0), opt_state, params
    )
    return optax.apply_updates(params, updates), opt_state


def _actor_sizes(config: Config, n: int) -> tuple[int, ...]:
    return (n, *config.hidden_sizes, 2 * n)


def _critic_sizes(config: Config, n: int) -> tuple[int, ...]:
    return (2 * n, *config.hidden_sizes, 1)


def _init_network(key: Array, sizes: Sequence[int], dtype: DTypeLike) -> Array:
    """Kernels and biases uniform within ±1/√fan-in, in the order in which `_apply` reads them."""
    bounds = np.concatenate(
        [np.full((fan_in + 1) * fan_out, fan_in**-0.5) for fan_in, fan_out in pairwise(sizes)]
    )
    draws = jax.random.uniform(key, bounds.shape, dtype, -1, 1)
    return draws * jnp.asarray(bounds, dtype)


def _apply(sizes: Sequence[int], network: Array, x: Array) -> Array:
    """The network on a batch [B, in], with ReLU between its layers."""
    lengths = [(fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes)]
    layers = jnp.split(network, np.cumsum(lengths)[:-1])
    for k, (layer, fan_out) in enumerate(zip(layers, sizes[1:], strict=True)):
        affine = layer.reshape(-1, fan_out)  # the kernel [in, out] above the bias
        x = (jax.nn.relu(x) if k else x) @ affine[:-1] + affine[-1:]
    return x
