"""The soft actor-critic agent of IGBv2: its networks, objectives and buffer against oracles."""

import collections
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import quad

from dbmtl_jax.loss_balancing import _soft_actor_critic as sac

CONFIG = sac.Config((8, 8), 16, 1e-2, 0.9, 0.25, 0.2)
gradient_step = jax.jit(functools.partial(sac.gradient_step, CONFIG))


def numpy_network(sizes, vector, x):
    start = 0
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        x = np.maximum(x, 0) if k else x
        kernel = vector[start : start + fan_in * fan_out].reshape(fan_in, fan_out)
        start += fan_in * fan_out
        x = x @ kernel + vector[start : start + fan_out]
        start += fan_out
    assert start == len(vector)
    return x


def numpy_act(actor, observations, noise):
    out = numpy_network((2, 8, 8, 4), actor, observations)
    mean, log_std = out[:, :2], np.clip(out[:, 2:], -20, 2)
    u = mean + np.exp(log_std) * noise
    normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    density = (normal - np.log(1 - np.tanh(u) ** 2)).sum(axis=1)
    exps = np.exp(u)
    return 2 * exps / exps.sum(axis=1, keepdims=True), density


def numpy_values(critics, observations, actions):
    inputs = np.concatenate([observations, actions], axis=1)
    return np.stack([numpy_network((4, 8, 8, 1), c, inputs)[:, 0] for c in critics])


@pytest.fixture
def agent():
    agent = sac.init_agent(CONFIG, jax.random.PRNGKey(3), 2, jnp.float32)
    # Critics that disagree with each other and with their targets, as after some steps.
    critics = agent.critics * jnp.array([[1.0], [-2.0]])
    return agent._replace(critics=critics, targets=agent.targets * 0.9 + 0.01)


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return sac.Transition(
        *(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in [(5, 2)] * 2 + [(5,)]),
        jnp.asarray(rng.normal(size=(5, 2)), jnp.float32),
    )


def test_density_of_the_squashed_normal():
    """By a change of variables with `jax.jacfwd`, and it integrates to one."""
    mean, log_std = jnp.array([0.3, -1.2]), jnp.array([-0.5, 0.4])
    u = jnp.array([0.7, -2.0])
    normal = jax.scipy.stats.multivariate_normal.logpdf(u, mean, jnp.diag(jnp.exp(2 * log_std)))
    expected = normal - jnp.linalg.slogdet(jax.jacfwd(jnp.tanh)(u))[1]
    np.testing.assert_allclose(sac.log_density(u, mean, log_std), expected, rtol=1e-4)

    density = jax.jit(
        lambda a: jnp.exp(sac.log_density(jnp.arctanh(a)[None], mean[:1], log_std[:1]))
    )
    assert quad(lambda a: float(density(a)), -1, 1, limit=100)[0] == pytest.approx(1, abs=1e-3)
    # Where tanh(u) rounds to 1, the naive form is infinite.
    assert jnp.isfinite(sac.log_density(jnp.array([40.0, -40.0]), mean, log_std))


def test_actors_and_critics_are_the_networks_of_the_paper(agent, batch):
    noise = np.random.default_rng(2).normal(size=(5, 2)).astype(np.float32)
    actor, critics = (np.asarray(x, np.float64) for x in (agent.actor, agent.critics))
    found = sac.act(CONFIG, agent.actor, batch.observation, jnp.asarray(noise))
    expected = numpy_act(actor, np.asarray(batch.observation), noise)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    np.testing.assert_allclose(
        sac.critic_values(CONFIG, agent.critics, batch.observation, batch.action),
        numpy_values(critics, np.asarray(batch.observation), np.asarray(batch.action)),
        rtol=1e-4,
        atol=1e-6,
    )
    # The two critics start as two, both within ±1/√fan-in.
    first = sac.init_agent(CONFIG, jax.random.PRNGKey(3), 2, jnp.float32)
    critics = np.asarray(first.critics)
    assert np.all(critics[0] != critics[1])
    bounds = [4**-0.5] * 40 + [8**-0.5] * (72 + 9)
    assert np.all(np.abs(critics) <= bounds)
    assert np.all(np.abs(critics).max(axis=1) > 0.95 * 4**-0.5)


def test_the_log_std_is_bounded(agent, batch):
    _, log_std = sac.propose(CONFIG, agent.actor, batch.observation * 1e4)
    assert log_std.min() >= -20
    assert log_std.max() <= 2
    assert jnp.any((log_std == 2) | (log_std == -20))


def test_critics_learn_the_reward_and_the_discounted_soft_value(agent, batch):
    noise = np.random.default_rng(2).normal(size=(5, 2)).astype(np.float32)
    found = sac.bootstrap(CONFIG, agent, batch, jnp.asarray(noise))
    following = np.asarray(batch.next_observation)
    actions, density = numpy_act(np.asarray(agent.actor), following, noise)
    values = numpy_values(np.asarray(agent.targets), following, actions).min(axis=0)
    expected = np.asarray(batch.reward) + 0.9 * (values - 0.2 * density)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_gradient_step_is_adams_on_each_objective(agent, batch):
    """After one step Adam's first moment is a tenth of the gradient."""
    noise = jnp.asarray(np.random.default_rng(2).normal(size=(2, 5, 2)), jnp.float32)
    shares = jnp.array([0.25, 0.25, 0.25, 0.25, 0.0])
    after = gradient_step(agent, batch, shares, noise)
    rows = np.arange(4)
    wanted = np.asarray(sac.bootstrap(CONFIG, agent, batch, noise[0]))[rows]
    observation, action = batch.observation[rows], batch.action[rows]

    def critics_loss(critics):
        values = sac.critic_values(CONFIG, critics, observation, action)
        return sum(jnp.mean((v - wanted) ** 2) for v in values)

    def actor_loss(actor):
        actions, density = sac.act(CONFIG, actor, observation, noise[1][rows])
        values = sac.critic_values(CONFIG, after.critics, observation, actions)
        return jnp.mean(0.2 * density - jnp.minimum(*values))

    for objective, old, new, opt_state in (
        (critics_loss, agent.critics, after.critics, after.critics_opt_state),
        (actor_loss, agent.actor, after.actor, after.actor_opt_state),
    ):
        slope = np.asarray(jax.jit(jax.grad(objective))(old))
        np.testing.assert_allclose(optax.tree.get(opt_state, "mu"), slope / 10, 1e-3, 1e-6)
        clear = np.abs(slope) > 1e-4
        assert clear.mean() > 0.3
        moves = np.asarray(new - old)
        np.testing.assert_allclose(moves[clear], -1e-2 * np.sign(slope[clear]), rtol=1e-2)
    np.testing.assert_allclose(
        after.targets, 0.75 * agent.targets + 0.25 * after.critics, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("log_std", "sign"), [(-6.0, 1), (-0.3, -1)])
def test_alpha_rises_where_the_entropy_is_below_its_target(agent, batch, log_std, sign):
    """With a tiny spread the entropy of tanh(u) is far below -2; near the uniform it is above."""
    last = jnp.zeros_like(agent.actor).at[-2:].set(log_std)
    noise = jnp.asarray(np.random.default_rng(2).normal(size=(2, 5, 2)), jnp.float32)
    before = agent._replace(actor=last)
    after = gradient_step(before, batch, jnp.full(5, 0.2), noise)
    assert float(after.log_alpha - before.log_alpha) == pytest.approx(sign * 1e-2, rel=1e-3)


def test_the_buffer_is_a_ring():
    capacity = 3
    buffer, kept = sac.init_buffer(capacity, 2, jnp.float32), collections.deque(maxlen=capacity)
    add = jax.jit(sac.add)
    for k in range(11):
        new = sac.Transition(*(jnp.full(s, 10.0 * k + i) for i, s in enumerate([2, 2, (), 2])))
        valid = k % 4 != 1
        buffer = add(buffer, new, jnp.array(valid))
        if valid:
            kept.append(new)
        assert int(buffer.size) == len(kept)
        # From the oldest to the newest.
        order = (int(buffer.position) - len(kept) + np.arange(len(kept))) % capacity
        found = jax.tree.map(lambda x, order=order: x[order], buffer.transitions)
        if kept:
            chex.assert_trees_all_equal(found, jax.tree.map(lambda *x: jnp.stack(x), *kept))


def test_batches_and_steps_grow_with_the_buffer():
    buffer = sac.init_buffer(16, 2, jnp.float32)
    sizes = [0, 4, 12, 16]
    found = [int(sac.grown(50, buffer._replace(size=jnp.int32(size)))) for size in sizes]
    assert found == [int(50 * (1 + size / 16) / 2) for size in sizes]
    assert int(sac.grown(1, buffer)) == 1


def test_only_what_was_added_is_drawn(agent):
    """The rest of the buffer is NaN, which would stop every step of the critics."""
    buffer = sac.init_buffer(64, 2, jnp.float32)
    poisoned = buffer._replace(transitions=jax.tree.map(lambda x: x * jnp.nan, buffer.transitions))
    for _ in range(2):
        new = sac.Transition(jnp.ones(2), jnp.ones(2), jnp.ones(()), jnp.ones(2))
        buffer, poisoned = (sac.add(b, new, jnp.array(True)) for b in (buffer, poisoned))
    train = jax.jit(functools.partial(sac.train, CONFIG))
    outcomes = [train(agent, b, jax.random.PRNGKey(0), jnp.int32(5)) for b in (buffer, poisoned)]
    chex.assert_trees_all_equal(*outcomes)
    assert np.any(outcomes[0].critics != agent.critics)
    untouched = train(agent, buffer, jax.random.PRNGKey(0), jnp.int32(0))
    chex.assert_trees_all_equal(untouched, agent)


def test_every_gradient_step_has_its_own_noise_and_equal_shares(agent, monkeypatch):
    """A batch of at most 16 from a buffer that is an eighth full: 9 of them count."""

    def record(config, agent, batch, shares, noise):
        return agent._replace(log_alpha=jnp.sum(shares**2), actor=noise.ravel())

    monkeypatch.setattr(sac, "gradient_step", record)
    buffer = sac.init_buffer(16, 2, jnp.float32)._replace(size=jnp.int32(2))
    start = agent._replace(actor=jnp.zeros(2 * 16 * 2))
    once, twice = (
        sac.train(CONFIG, start, buffer, jax.random.PRNGKey(0), jnp.int32(steps))
        for steps in (1, 2)
    )
    assert float(once.log_alpha) == pytest.approx(1 / 9, rel=1e-5)
    assert jnp.all(once.actor != twice.actor)
    assert len(np.unique(twice.actor)) == twice.actor.size


def test_the_agent_learns_to_prefer_what_is_rewarded():
    """A bandit that pays the second weight: the mean action moves to it, from any observation."""
    config = sac.Config((16, 16), 64, 3e-3, 0.0, 0.05, 0.05)
    first = sac.init_agent(config, jax.random.PRNGKey(0), 3, jnp.float32)
    rng = np.random.default_rng(0)
    u = rng.normal(size=(256, 3))
    actions = 3 * np.exp(u) / np.exp(u).sum(axis=1, keepdims=True)
    seen, following = rng.uniform(0.5, 2, (2, 256, 3))
    transitions = sac.Transition(seen, actions, actions[:, 1], following)
    transitions = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), transitions)
    buffer = sac.Buffer(transitions, jnp.int32(0), jnp.int32(256))

    def preferred(agent):
        mean, _ = sac.propose(config, agent.actor, transitions.observation)
        return np.asarray(sac.to_action(mean)).mean(axis=0)

    train = jax.jit(functools.partial(sac.train, config))
    agent = train(first, buffer, jax.random.PRNGKey(1), jnp.int32(600))
    before, after = preferred(first), preferred(agent)
    assert before[1] < 1.5
    assert after[1] > 2.0
    # Its critics know what it is paid.
    values = sac.critic_values(config, agent.critics, transitions.observation, transitions.action)
    assert np.sqrt(np.mean((values[0] - transitions.reward) ** 2)) < 0.15
