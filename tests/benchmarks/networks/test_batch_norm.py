"""Batch normalisation against its closed form."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.networks.batch_norm import BatchNorm, in_turn
from benchmarks.networks.functional import functional

_RNG = np.random.default_rng(0)
_X = _RNG.normal(3, 2, (4, 3, 5, 2)).astype(np.float32)
_PARAMS = {"scale": np.float32([0.5, -2]), "bias": np.float32([1, 3])}
_STATS = {"mean": np.float32([1, -1]), "var": np.float32([4, 0.25])}


@pytest.fixture(scope="module")
def apply():
    return functional(BatchNorm(2)).apply


def test_training_mode(apply):
    given = jax.tree.map(np.copy, _STATS)
    y, stats = apply(_PARAMS, given, _X, train=True)
    chex.assert_trees_all_equal(given, _STATS)  # nothing is written into them
    mean, var = _X.mean((0, 1, 2)), _X.var((0, 1, 2))
    expected = (_X - mean) / np.sqrt(var + 1e-5) * _PARAMS["scale"] + _PARAMS["bias"]
    chex.assert_trees_all_close(y, expected, rtol=1e-5, atol=1e-5)
    moved = {
        "mean": 0.9 * _STATS["mean"] + 0.1 * mean,
        "var": 0.9 * _STATS["var"] + 0.1 * _X.var((0, 1, 2), ddof=1),
    }
    chex.assert_trees_all_close(stats, moved, rtol=1e-5)


def test_eval_mode(apply):
    y, stats = apply(_PARAMS, _STATS, _X)
    normal = (_X - _STATS["mean"]) / np.sqrt(_STATS["var"] + 1e-5)
    chex.assert_trees_all_close(y, normal * _PARAMS["scale"] + _PARAMS["bias"], rtol=1e-5)
    chex.assert_trees_all_equal(stats, _STATS)


def test_variance_survives_a_large_mean(apply):
    """The mean of squares less the square of the mean is off by a tenth here."""
    x = _X.reshape(-1, 2) + np.float32(1000)
    _, stats = apply(_PARAMS, _STATS, x, train=True)
    expected = 0.9 * _STATS["var"] + 0.1 * x.astype(np.float64).var(0, ddof=1)
    np.testing.assert_allclose(stats["var"], expected, rtol=1e-5)


def test_half_precision_in_and_out_but_not_within(apply):
    x = jnp.asarray(_X, jnp.bfloat16)
    y, stats = apply(_PARAMS, _STATS, x, train=True)
    assert y.dtype == jnp.bfloat16
    exact, expected = apply(_PARAMS, _STATS, x.astype(jnp.float32), train=True)
    chex.assert_trees_all_equal(stats, expected)
    chex.assert_trees_all_equal(y, exact.astype(jnp.bfloat16))


def test_one_value_has_no_variance(apply):
    with pytest.raises(ValueError, match=r"more than one value.*\(1, 1, 1, 2\)"):
        apply(_PARAMS, _STATS, _X[:1, :1, :1], train=True)
    apply(_PARAMS, _STATS, _X[:1, :1, :1])


def test_statistics_of_tasks_side_by_side_join_to_those_in_turn(apply):
    batches = [_X[:, 0], _X[:, 1] * 3, _X[:, 2] - 5]
    side_by_side = [apply(_PARAMS, _STATS, x, train=True)[1] for x in batches]
    expected = _STATS
    for x in batches:
        _, expected = apply(_PARAMS, expected, x, train=True)
    joined = in_turn(_STATS, jax.tree.map(lambda *rows: jnp.stack(rows), *side_by_side))
    chex.assert_trees_all_close(joined, expected, rtol=1e-5)
