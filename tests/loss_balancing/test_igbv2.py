"""IGBv2: its schedule and rewards in closed form, and when its agent acts and learns."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax.loss_balancing import _soft_actor_critic as sac

SMALL = {"buffer_size": 8, "batch_size": 8, "hidden_sizes": (8,)}


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


def test_the_learning_rate_may_be_traced():
    def first(rate):
        tx = dbmtl.igbv2(2, **SMALL, steps_per_epoch=2, learning_rate=lambda step: rate)
        return tx.init(jnp.zeros(3)).steps

    np.testing.assert_array_equal(jax.jit(first)(0.1), 0)


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
    """Epochs of 2 steps: from step 6 on, the first of epoch 3, at multiples of 3."""
    tx = dbmtl.igbv2(2, **SMALL, steps_per_epoch=2, train_every=3)
    _, memories = run(tx, falling(20))
    # The buffer, of 8, holds 3 transitions at step 6, 6 at step 9, and is full at step 12:
    # 3 (1 + 3/8) / 2 = 2.06, 3 (1 + 6/8) / 2 = 2.63, and 3.
    counts = np.array([0] * 6 + [2] * 3 + [4] * 3 + [7] * 3 + [10] * 3 + [13] * 2)
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
    _, (first,) = run(dbmtl.igbv2(2, **SMALL), np.array([[3, 9]], np.float32), masks[3:4])
    np.testing.assert_array_equal(first.observation, [3, 1])  # before the first one
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
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch: expected an int of at least 1"),
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
