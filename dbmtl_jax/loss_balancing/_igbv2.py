"""IGBv2: weights that a reinforcement-learning agent chooses from the losses."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._loss_balancer import LossBalancer, loss_balancer, scaling_form
from dbmtl_jax.core._random import key_of
from dbmtl_jax.core._task_linalg import accumulation_dtype, task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import (
    Array,
    Count,
    Int,
    Labels,
    Mask,
    PerTask,
    PyTree,
    Scalar,
    Seed,
    TaskCount,
)
from dbmtl_jax.loss_balancing import _soft_actor_critic as sac


class IGBv2State(NamedTuple):
    """The agent, its replay buffer, and what the next reward is computed from."""

    step: Int[Array, ""]
    key: Array  # the random key of the next step
    agent: sac.Agent
    buffer: sac.Buffer
    observation: PerTask  # the last loss of each task; 1 before its first
    action: PerTask  # w, the weights of the log-losses in the last step with a present task
    base: PerTask  # mean losses of the base epoch
    base_steps: Int[Array, " T"]  # the number of losses in each mean


class _Schedule(NamedTuple):
    steps_per_epoch: Count
    learning_rate: optax.Schedule | None
    warmup_epochs: Count
    base_epoch: Count
    train_from_epoch: Count
    train_every: Count
    buffer_size: int


_LOWEST = {
    "steps_per_epoch": 1,
    "warmup_epochs": 0,
    "base_epoch": 0,
    "train_from_epoch": 0,
    "train_every": 1,
}


def igbv2(
    num_tasks: TaskCount,
    *,
    steps_per_epoch: Count = 1,
    learning_rate: optax.Schedule | None = None,
    warmup_epochs: Count = 5,
    base_epoch: Count = 1,
    train_from_epoch: Count = 3,
    train_every: Count = 50,
    buffer_size: int | None = None,
    batch_size: int | None = None,
    hidden_sizes: Sequence[int] = (128, 128),
    agent_learning_rate: Scalar = 3e-4,
    discount: Scalar = 0.99,
    polyak: Scalar = 0.005,
    initial_alpha: Scalar = 0.2,
    eps: Scalar = 1e-8,
    seed: Seed = 0,
    labels: Labels = None,
) -> LossBalancer:
    r"""Improvable Gap Balancing, version 2.

    .. math:: \min \sum_t w_t \log(\ell_t + \epsilon), \qquad w = T \, \mathrm{softmax}(u)

    so the loss weight of task t is :math:`w_t / (\ell_t + \epsilon)`.  A soft actor-critic agent
    draws u given the losses.  Its reward for the weights of one step is computed in the next:

    .. math:: \frac{\eta_0}{\eta} \min_t \frac{\ell_t^{\mathrm{before}} - \ell_t}{\bar\ell_t}

    with the mean losses :math:`\bar\ell_t` of the base epoch and the learning rate η.  Epochs count
    from 0.  Until `warmup_epochs` have passed, u ~ N(0, I).  Transitions are stored in the buffer
    once the base epoch is over.  From `train_from_epoch` on, the agent is trained every
    `train_every` steps: with `train_every` gradient steps if the buffer is full, down to half as
    many if it is empty.  The batches grow with the buffer in the same way.  All of this runs on
    the device within the step.

    The agent sees the last loss of an absent task, which does not count in the reward.  For a task
    absent from the whole base epoch, its first loss after that epoch takes the place of the mean.
    In a step without present tasks the agent stores no transition.  A task's own parameters get
    their gradient times the loss weight.

    Args:
      num_tasks: T, or the names of the tasks.
      steps_per_epoch: the number of steps in an epoch.
      learning_rate: the optax schedule of the model's optimizer, count -> η; None: η_0/η = 1.
      warmup_epochs: the number of epochs with random weights.
      base_epoch: the epoch whose mean losses scale the reward.
      train_from_epoch: the first epoch in which the agent is trained.
      train_every: the number of steps from one training of the agent to the next.
      buffer_size: the number of transitions that the replay buffer holds; None: 10,000.
      batch_size: the batch size of the agent's gradient steps when the buffer is full; None: 256.
      hidden_sizes: the widths of the hidden layers of the actor and of both critics.
      agent_learning_rate: Adam's, for the actor, the critics and the coefficient of the entropy.
      discount: the discount factor of later rewards.
      polyak: the rate at which the target networks follow the critics, per gradient step.
      initial_alpha: the first coefficient of the entropy; its target entropy is -T.
      eps: ε; a task whose loss is at most -ε is absent from the step.
      seed: the seed of the networks and all draws, an int or a key; the key is part of the state.
      labels: see `dbmtl_jax.core`.

    Source: Dai et al., Improvable gap balancing for multi-task learning, UAI 2023.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.igbv2(num_tasks=2, steps_per_epoch=100)
      >>> losses = jnp.array([0.5, 20.0])
      >>> _, state = tx.update(jnp.ones((2, 1)), tx.init(jnp.zeros(1)), losses=losses)
      >>> print((optax.tree.get(state, "loss_weights") * losses).sum().round(4))
      2.0
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    schedule = _Schedule(
        steps_per_epoch,
        learning_rate,
        warmup_epochs,
        base_epoch,
        train_from_epoch,
        train_every,
        _checks.check_size("buffer_size", 10_000 if buffer_size is None else buffer_size),
    )
    config = sac.Config(
        tuple(_checks.check_size(f"hidden_sizes[{i}]", n) for i, n in enumerate(hidden_sizes)),
        _checks.check_size("batch_size", 256 if batch_size is None else batch_size),
        agent_learning_rate,
        discount,
        polyak,
        initial_alpha,
    )
    _check_options(schedule, config, eps)

    def init(shared: PyTree) -> IGBv2State:
        dtype = accumulation_dtype(*jax.tree.leaves(shared))
        agent_key, key = jax.random.split(key_of(seed))
        return IGBv2State(
            step=jnp.zeros((), jnp.int32),
            key=key,
            agent=sac.init_agent(config, agent_key, num_tasks, dtype),
            buffer=sac.init_buffer(schedule.buffer_size, num_tasks, dtype),
            observation=task_vector(num_tasks, 1, shared),
            action=task_vector(num_tasks, 1, shared),
            base=task_vector(num_tasks, 0, shared),
            base_steps=jnp.zeros((num_tasks,), jnp.int32),
        )

    # Compiled on its own, or the agent's loop would be compiled anew in every step outside of jit.
    @jax.jit
    def advance(losses: PerTask, present: Mask, memory: IGBv2State) -> tuple[PerTask, IGBv2State]:
        key, action_key, train_key = jax.random.split(memory.key, 3)
        epoch = memory.step // schedule.steps_per_epoch
        observed = losses.astype(memory.observation.dtype)
        seen = present & jnp.isfinite(observed)  # a float64 may be too large for the state
        observation = jnp.where(seen, observed, memory.observation)

        rewarded = seen & (memory.base_steps > 0)
        gains = (memory.observation - observation) / jnp.maximum(memory.base, eps)
        reward = jnp.min(gains, where=rewarded, initial=jnp.inf)
        reward *= _rate_ratio(schedule.learning_rate, memory.step).astype(reward.dtype)
        # The reward is infinite if no task counts in it; and the critics square their errors.
        learnable = jnp.isfinite(jnp.square(reward))
        valid = learnable & (epoch > schedule.base_epoch)
        buffer = sac.add(
            memory.buffer,
            sac.Transition(memory.observation, memory.action, reward, observation),
            valid,
        )

        due = (epoch >= schedule.train_from_epoch) & (memory.step % schedule.train_every == 0)
        steps = jnp.where(due & (buffer.size > 0), sac.grown(schedule.train_every, buffer), 0)
        agent = sac.train(config, memory.agent, buffer, train_key, steps)

        noise = jax.random.normal(action_key, observation.shape, observation.dtype)
        chosen, _ = sac.act(config, agent.actor, observation[None], noise[None])
        random = sac.to_action(noise)
        action = jnp.where(epoch < schedule.warmup_epochs, random, chosen[0])
        # Losses near the largest float overflow within the actor.
        action = jnp.where(jnp.all(jnp.isfinite(action)), action, 1)

        # A running mean, as the sum of losses could overflow.
        in_base = (epoch == schedule.base_epoch) | (
            (epoch > schedule.base_epoch) & (memory.base_steps == 0)
        )
        base_steps = memory.base_steps + (seen & in_base)
        shift = (observation - memory.base) / jnp.maximum(base_steps, 1)
        return action / (losses + eps), IGBv2State(
            step=optax.safe_increment(memory.step),
            key=key,
            agent=agent,
            buffer=buffer,
            observation=observation,
            action=jnp.where(seen.any(), action, memory.action),
            base=jnp.where(seen & in_base, memory.base + shift, memory.base),
            base_steps=base_steps,
        )

    def weigh(tasks: Tasks, memory: IGBv2State) -> tuple[PerTask, IGBv2State]:
        return advance(tasks.losses, tasks.present, memory)

    return loss_balancer(num_tasks, weigh, init=init, above=-eps, labels=labels, name="igbv2")


scale_by_igbv2 = scaling_form(igbv2)


def _rate_ratio(learning_rate: optax.Schedule | None, step: Int[Array, ""]) -> Array:
    """η_0/η."""
    if learning_rate is None:
        return jnp.ones(())
    return jnp.asarray(learning_rate(jnp.zeros_like(step))) / jnp.asarray(learning_rate(step))


def _check_options(schedule: _Schedule, config: sac.Config, eps: Scalar) -> None:
    for name, low in _LOWEST.items():
        _checks.check_count(name, getattr(schedule, name), low)
    _checks.check_range("agent_learning_rate", config.learning_rate, 0)
    _checks.check_range("discount", config.discount, 0, 1)
    _checks.check_range("polyak", config.polyak, 0, 1)
    _checks.check_range("initial_alpha", config.initial_alpha, 1e-6)
    _checks.check_range("eps", eps, 0)
    rate = schedule.learning_rate
    if rate is None:
        return
    if not callable(rate):
        raise TypeError(
            f"learning_rate: expected an optax schedule or None, found {rate!r}; {_checks.STATIC}"
        )
    first = rate(jnp.zeros((), jnp.int32))
    if not isinstance(first, jax.core.Tracer) and not first > 0:
        raise ValueError(
            f"learning_rate: expected a schedule that starts above 0, as rewards are relative to "
            f"its first value, found {first}"
        )
