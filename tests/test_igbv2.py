"""IGBv2: its schedule and rewards in closed form, and the parts of its agent against oracles."""

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

import dbmtl_jax as dbmtl
from dbmtl_jax.loss_balancing import _soft_actor_critic as sac

SMALL = {"buffer_size": 8, "batch_size": 8, "hidden_sizes": (8,)}
CONFIG = sac.Config((8, 8), 16, 1e-2, 0.9, 0.25, 0.2)
gradient_step = jax.jit(functools.partial(sac.gradient_step, CONFIG))


def run(tx, rows, masks=None):
    """The weights of the losses' logarithms at each step, and the memory after each step."""
    num_tasks = len(rows[0])
    state = tx.init(jnp.zeros(2))
    update = jax.jit(tx.update)
    weights, memories = [], []
    for k, losses in enumerate(rows):
        mask = jnp.ones(num_tasks, bool) if masks is None else jnp.asarray(masks[k])
        grads = jnp.ones((num_tasks, 2))
        _, state = update(grads, state, losses=jnp.asarray(losses), task_mask=mask)
        present = np.where(np.isfinite(losses), losses, 0)
        weights.append(np.asarray(optax.tree.get(state, "loss_weights")) * present)
        memories.append(jax.tree.map(np.asarray, optax.tree.get(state, "memory")))
    return np.array(weights), memories


def falling(steps, num_tasks=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 2.0, (steps, num_tasks)).astype(np.float32)


def agent_steps(memories):
    return [int(optax.tree.get(m.agent.actor_opt_state, "count")) for m in memories]


def test_weights_are_random_while_warming_up_and_then_the_actors():
    options = SMALL | {"warmup_epochs": 50, "train_from_epoch": 1000}
    rows = falling(60, 3)
    weights, memories = run(dbmtl.igbv2(3, **options), rows)
    np.testing.assert_allclose(weights.sum(axis=1), 3, rtol=1e-5)
    assert len(np.unique(weights[:, 0])) == 60
    # u ~ N(0, I): differences of the logarithms have variance 2.
    log = np.log(weights[:50])
    assert 1.2 < np.var(log[:, 1:] - log[:, :1]) < 3.0
    for k in range(50, 60):
        config = sac.Config((8,), 8, 3e-4, 0.99, 0.005, 0.2)
        _, action_key, _ = jax.random.split(memories[k - 1].key, 3)
        noise = jax.random.normal(action_key, (1, 3))
        expected, _ = sac.act(config, memories[k].agent.actor, jnp.asarray(rows[k][None]), noise)
        np.testing.assert_allclose(weights[k], expected[0], rtol=1e-4)

    same, _ = run(dbmtl.igbv2(3, **options), rows)
    np.testing.assert_array_equal(weights, same)
    other, _ = run(dbmtl.igbv2(3, **options, seed=1), rows)
    assert np.all(np.any(weights != other, axis=1))


def test_rewards_are_the_smallest_improvement_by_the_base_epochs_mean():
    """Epochs of two steps, counted from 0: the base is epoch 1, rewards start with epoch 2."""
    rows = falling(9)
    halving = optax.exponential_decay(1.0, transition_steps=1, decay_rate=0.5)
    tx = dbmtl.igbv2(2, **SMALL, steps_per_epoch=2, learning_rate=halving)
    weights, memories = run(tx, rows)
    base = rows[2:4].mean(axis=0)
    np.testing.assert_allclose(memories[-1].base, base, rtol=1e-6)
    assert [int(m.buffer.size) for m in memories] == [0, 0, 0, 0, 1, 2, 3, 4, 5]
    kept = memories[-1].buffer.transitions
    for row, k in enumerate(range(4, 9)):
        expected = 2.0**k * np.min((rows[k - 1] - rows[k]) / base)
        np.testing.assert_allclose(kept.reward[row], expected, rtol=1e-4)
        np.testing.assert_array_equal(kept.observation[row], rows[k - 1])
        np.testing.assert_array_equal(kept.next_observation[row], rows[k])
        np.testing.assert_allclose(kept.action[row], weights[k - 1], rtol=1e-5)


def test_without_a_learning_rate_rewards_are_not_scaled():
    rows = falling(4)
    _, memories = run(dbmtl.igbv2(2, **SMALL), rows)
    expected = [np.min((rows[k - 1] - rows[k]) / rows[1]) for k in (2, 3)]
    np.testing.assert_allclose(memories[-1].buffer.transitions.reward[:2], expected, rtol=1e-5)


def test_losses_that_stay_zero_are_no_improvement():
    _, memories = run(dbmtl.igbv2(2, **SMALL), np.zeros((4, 2), np.float32))
    assert memories[-1].buffer.size == 2
    np.testing.assert_array_equal(memories[-1].buffer.transitions.reward, 0)


def test_the_agent_learns_when_due_and_only_then():
    """Epochs of 2 steps: from step 6 on, at multiples of 4: at 8, with a buffer of 5 of 8."""
    tx = dbmtl.igbv2(2, **SMALL, steps_per_epoch=2, train_every=4)
    _, memories = run(tx, falling(20))
    counts = np.array([0] * 8 + [3] * 4 + [3 + 4] * 4 + [3 + 8] * 4)  # 4 (1 + 5/8) / 2 = 3.25
    np.testing.assert_array_equal(agent_steps(memories), counts)
    for before, after in itertools.pairwise(memories):
        changed = jax.tree.map(lambda a, b: np.any(a != b), before.agent, after.agent)
        learnt = agent_steps([after]) != agent_steps([before])
        assert set(jax.tree.leaves(changed)) == {np.bool_(learnt)}


def test_the_agent_never_learns_from_an_empty_buffer():
    tx = dbmtl.igbv2(2, **SMALL, train_every=1, train_from_epoch=0)
    _, memories = run(tx, falling(5))
    # Half of one step rounds down to none, but it is at least one.
    np.testing.assert_array_equal(agent_steps(memories), [0, 0, 1, 2, 3])


def test_an_absent_task_keeps_its_last_loss_and_is_not_rewarded():
    rows = np.array([[1, 1], [2, 4], [1, 1], [0.5, 9], [0.4, 0.5]], np.float32)
    masks = np.array([[1, 1], [1, 1], [1, 1], [1, 0], [1, 1]], bool)
    weights, memories = run(dbmtl.igbv2(2, **SMALL), rows, masks)
    np.testing.assert_array_equal(memories[3].observation, [0.5, 1])
    kept = memories[-1].buffer.transitions
    expected = [min(1 / 2, 3 / 4), 0.5 / 2, min(0.1 / 2, 0.5 / 4)]
    np.testing.assert_allclose(kept.reward[:3], expected, rtol=1e-5)
    np.testing.assert_array_equal(kept.next_observation[1], [0.5, 1])
    assert weights[3, 1] == 0
    np.testing.assert_allclose(kept.action[2].sum(), 2, rtol=1e-5)  # chosen for both


def test_a_task_absent_from_the_base_epoch_is_measured_against_its_first_loss():
    rows = np.array([[1, 1], [2, 4], [1, 8], [0.5, 6]], np.float32)
    masks = np.array([[1, 1], [1, 0], [1, 1], [1, 1]], bool)
    _, memories = run(dbmtl.igbv2(2, **SMALL), rows, masks)
    np.testing.assert_array_equal(memories[-1].base, [2, 8])
    rewards = memories[-1].buffer.transitions.reward
    np.testing.assert_allclose(rewards[:2], [1 / 2, min(0.5 / 2, 2 / 8)], rtol=1e-5)


def test_a_step_without_tasks_is_none_to_the_agent():
    rows = falling(6)
    masks = np.array([[1, 1]] * 3 + [[0, 0]] + [[1, 1]] * 2, bool)
    _, memories = run(dbmtl.igbv2(2, **SMALL), rows, masks)
    for field in ("observation", "action", "base", "base_steps", "buffer"):
        chex.assert_trees_all_equal(getattr(memories[2], field), getattr(memories[3], field))
    kept = memories[4].buffer.transitions
    np.testing.assert_array_equal(kept.observation[1], rows[2])
    np.testing.assert_array_equal(kept.action[1], memories[2].action)


@pytest.mark.parametrize(
    ("rows", "masks"),
    [
        (falling(12), np.zeros((12, 2), bool)),
        (np.full((12, 2), np.nan, np.float32), None),
        (np.zeros((12, 2), np.float32), None),
        (np.float32(10.0) ** np.tile([[-30, 30], [30, -30]], (6, 1)), None),
        (np.float32(10.0) ** np.tile([[0, 0], [18, 18]], (6, 1)), None),
        (np.float32(10.0) ** np.tile([[25, 25], [0, 0]], (6, 1)), None),
        (np.full((12, 2), 3e38, np.float32) * np.linspace(1, 0.5, 12)[:, None], None),
        (np.concatenate([falling(4), np.full((8, 2), np.inf)]).astype(np.float32), None),
    ],
    ids=["all absent", "nan", "zero", "to and fro", "large", "steep", "near overflow", "infinite"],
)
def test_the_state_stays_finite(rows, masks):
    rows = np.asarray(rows, np.float32)
    tx = dbmtl.igbv2(2, **SMALL, warmup_epochs=4, train_every=2, agent_learning_rate=0.1)
    _, memories = run(tx, rows, masks)
    chex.assert_tree_all_finite(memories[-1])
    # Or its square, the critics' error, would overflow.
    assert np.all(np.abs(memories[-1].buffer.transitions.reward) < 1.9e19)


def test_weights_are_equal_where_the_actor_overflows():
    tx = dbmtl.igbv2(2, **SMALL, warmup_epochs=0)
    state = tx.init(jnp.zeros(2))
    state = optax.tree.set(state, actor=optax.tree.get(state, "actor") * 1e30)
    losses = jnp.array([1e20, 2e20])
    _, state = jax.jit(tx.update)(jnp.ones((2, 2)), state, losses=losses)
    np.testing.assert_allclose(optax.tree.get(state, "loss_weights") * losses, 1, rtol=1e-5)
    np.testing.assert_array_equal(optax.tree.get(state, "memory").action, 1)


def test_a_reward_too_large_to_learn_from_does_not_stop_the_agent_for_good():
    rows = falling(40)
    rows[5] = 1e15
    tx = dbmtl.igbv2(2, **SMALL, train_every=4)
    _, memories = run(tx, rows)
    chex.assert_tree_all_finite(memories[-1])
    assert np.any(memories[-1].agent.critics != memories[-5].agent.critics)


def test_the_state_can_be_double():
    with jax.enable_x64(True):
        tx = dbmtl.igbv2(2, **SMALL, train_every=2)
        state = tx.init(jnp.zeros(2))
        assert state.parts[0].memory.observation.dtype == jnp.float64
        update = jax.jit(tx.update)
        after = state
        for losses in falling(6).astype(np.float64):
            _, after = update(jnp.ones((2, 2)), after, losses=jnp.asarray(losses))
        chex.assert_trees_all_equal_shapes_and_dtypes(state, after)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch: expected a number in"),
        ({"buffer_size": 1e4}, TypeError, "buffer_size: expected an int, found 10000.0"),
        ({"train_every": 0}, ValueError, "train_every: expected"),
        ({"batch_size": 0}, ValueError, "batch_size: expected"),
        ({"hidden_sizes": (8, 0)}, ValueError, r"hidden_sizes\[1\]: expected"),
        ({"warmup_epochs": -1}, ValueError, "warmup_epochs: expected"),
        ({"discount": 1.5}, ValueError, "discount: expected"),
        ({"polyak": -0.1}, ValueError, "polyak: expected"),
        ({"initial_alpha": 0.0}, ValueError, "initial_alpha: expected"),
        ({"eps": -1.0}, ValueError, "eps: expected"),
        ({"learning_rate": 0.1}, TypeError, "learning_rate: expected an optax schedule or None"),
        (
            {"learning_rate": optax.linear_schedule(0.0, 1.0, 10)},
            ValueError,
            "learning_rate: expected a schedule that starts above 0",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_options_are_checked(options, error, message):
    for factory in (dbmtl.igbv2, dbmtl.scale_by_igbv2):
        with pytest.raises(error, match=message):
            factory(2, **options)


def test_a_negative_loss_makes_its_task_absent():
    rows = falling(3)
    rows[2, 1] = -0.5
    weights, memories = run(dbmtl.igbv2(2, **SMALL), rows)
    assert weights[2, 1] == 0
    np.testing.assert_array_equal(memories[2].observation, [rows[2, 0], rows[1, 1]])


# The agent.


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
