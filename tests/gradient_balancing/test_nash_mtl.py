"""Nash-MTL: the bargain, its clip, and its solutions between two steps."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from dbmtl_jax.gradient_balancing._nash_mtl import bargain


def at_angles(*degrees):
    """The cosines between vectors of the plane."""
    angles = np.deg2rad(degrees)
    return np.cos(angles[:, None] - angles[None])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "cosines",
    [
        at_angles(0, 60, 100),
        # The first full step from β = 1 would leave the positive numbers.
        at_angles(120, 130, 130, 180, 230, 250),
        # β is 10⁴ and 10⁵; every step doubles it at most.
        np.array([[1, 1e-8 - 1], [1e-8 - 1, 1]]),
        np.array([[1, 1e-10 - 1], [1e-10 - 1, 1]]),
    ],
    ids=["easy", "damped", "far", "very far"],
)
def test_bargains_are_solved_up_to_rounding(cosines):
    """C β = 1/β."""
    matrix = jnp.asarray(cosines)
    beta = np.asarray(bargain(matrix, jnp.ones(len(matrix), bool), jnp.ones(len(matrix))))
    condition = np.linalg.cond(cosines) if len(cosines) == 2 else 1
    residual = np.abs(beta * (cosines @ beta) - 1).max()
    assert residual <= 1e-12 * max(condition, 1) * len(cosines) * 10


def test_a_bargain_without_a_solution_is_bounded():
    """Opposite gradients: β² r = 1 with the ridge r; without it β would grow to 2⁶⁰."""
    beta = bargain(jnp.array([[1.0, -1.0], [-1.0, 1.0]]), jnp.ones(2, bool), jnp.ones(2))
    ridge = 8 * np.finfo(np.float32).eps
    np.testing.assert_allclose(beta, 1 / np.sqrt(ridge), rtol=0.3)


def test_nash_mtl_only_ever_shortens():
    grads = jnp.array([[2.0, 0.0], [0.0, 4.0]])  # the update is (1, 1)
    for max_norm, factor in ((5.0, 1.0), (0.5, 0.5 / np.sqrt(2))):
        tx = dbmtl.nash_mtl(2, max_norm=max_norm, update_every=2)
        update, state = tx.update(grads, tx.init(jnp.zeros(2)))
        np.testing.assert_allclose(update, factor, rtol=1e-5)
    # With weights from before, an update may be shorter than √T, and still be too long.
    update, _ = tx.update(grads / 2, state)
    np.testing.assert_allclose(update, 0.5 / np.sqrt(2), rtol=1e-5)
    update, _ = tx.update(grads / 20, state)
    np.testing.assert_allclose(update, 0.05, rtol=1e-5)


def test_nash_mtl_keeps_its_weights_between_solutions():
    tx = dbmtl.nash_mtl(3, update_every=2, max_norm=0)
    params = testing.sample_params()
    state, seen = tx.init(params), []
    for k in range(4):
        _, state = tx.update(testing.sample_task_grads(3, k), state, params)
        seen.append(np.asarray(optax.tree.get(state, "alpha")))
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[2], seen[3])
    assert np.all(seen[1] != seen[2])
