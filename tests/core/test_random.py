import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax.core._random import RandomState, key_of

GRADS = jnp.array([[1.0, -2.0, 3.0], [-3.0, 1.0, 1.0], [2.0, 2.0, -4.0]])
FACTORIES = {
    "rlw": dbmtl.rlw,
    "pcgrad": dbmtl.pcgrad,
    "grad_vac": dbmtl.grad_vac,
    "grad_drop": dbmtl.grad_drop,
}


@pytest.mark.parametrize(
    "seed", [jax.random.key(7), jax.random.PRNGKey(7), np.int64(7), jnp.array(7)]
)
@pytest.mark.parametrize("name", FACTORIES)
def test_a_seed_is_an_int_or_a_key(name, seed):
    expected, _ = update_of(FACTORIES[name](3, seed=7))
    found, state = update_of(FACTORIES[name](3, seed=seed))
    np.testing.assert_array_equal(found, expected)
    assert all(leaf.dtype != object for leaf in map(np.asarray, jax.tree.leaves(state)))


def update_of(tx):
    return tx.update(GRADS, tx.init(jnp.zeros(3)), losses=jnp.ones(3))


def test_keys_of_other_generators_give_draws_of_their_own():
    keys = [jax.random.key(seed, impl="rbg") for seed in (0, 1)]
    first, second = (key_of(key) for key in keys)
    assert first.shape == (2,)
    assert np.any(first != second)


def test_a_key_survives_the_donation_of_the_state():
    key = jax.random.PRNGKey(0)
    state = RandomState.from_seed(key)
    jax.jit(lambda s: s.draw()[0], donate_argnums=0)(state)
    np.testing.assert_array_equal(key, jax.random.PRNGKey(0))
    typed = jax.random.key(0)
    jax.jit(lambda s: s.draw()[0], donate_argnums=0)(RandomState.from_seed(typed))
    np.testing.assert_array_equal(jax.random.key_data(typed), jax.random.PRNGKey(0))


def test_draws_differ_from_step_to_step():
    state, first = RandomState.from_seed(0).draw()
    _, second = state.draw()
    assert np.any(first != second)


@pytest.mark.parametrize("seed", ["0", 1.5, True, jnp.ones(2), jnp.zeros((3,), jnp.uint32)])
def test_anything_else_is_refused(seed):
    with pytest.raises(TypeError, match="seed: expected an int or a key, found"):
        key_of(seed)
