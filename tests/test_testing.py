"""The testing tools themselves: every clause of the contract can fail, and says which it is."""

import jax
import jax.numpy as jnp
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing


def changed(change):
    """A factory of DB-MTL without an average, with something wrong about its `update`."""

    def factory(num_tasks, labels=None):
        right = dbmtl.db_mtl(num_tasks, 0.0, labels=labels)

        def init(params):
            return (right.init(params), jnp.zeros((), jnp.int32))

        def update(grads, state, params=None, **extra):
            def plain(grads, **extra):
                return right.update(grads, state[0], params, **extra)

            return change(plain, grads, state, extra)

        return optax.GradientTransformationExtraArgs(init, update)

    return factory


def counts_in_floats(plain, grads, state, extra):
    updates, inner = plain(grads, **extra)
    return updates, (inner, state[1] + 1.0)


def widens(plain, grads, state, extra):
    updates, inner = plain(grads, **extra)
    return jax.tree.map(lambda u: u.astype(jnp.float32), updates), (inner, state[1])


def reads_value(plain, grads, state, extra):
    updates, inner = plain(grads, **extra)
    factor = 1 + extra.get("value", 0.0)
    return jax.tree.map(lambda u: u * factor, updates), (inner, state[1])


def forgets_the_mask(plain, grads, state, extra):
    updates, inner = plain(grads, **(extra | {"task_mask": None}))
    return updates, (inner, state[1])


def passes_nan_on(plain, grads, state, extra):
    updates, inner = plain(grads, **extra)
    factor = jnp.where(jnp.all(jnp.isfinite(extra["losses"])), 1, jnp.nan)
    return jax.tree.map(lambda u: (u * factor).astype(u.dtype), updates), (inner, state[1])


def moves_on(plain, grads, state, extra):
    updates, inner = plain(grads, **extra)
    return jax.tree.map(lambda u: jnp.where(u == 0, 1, u), updates), (inner, state[1])


def doubles_what_streams(plain, grads, state, extra):
    factor = 2 if isinstance(grads, dbmtl.PendingTaskGrads) else 1
    updates, inner = plain(grads, **extra)
    return jax.tree.map(lambda u: factor * u, updates), (inner, state[1])


BROKEN = {
    "jit": changed(counts_in_floats),
    "scan": changed(counts_in_floats),
    "state": changed(counts_in_floats),
    "dtypes": changed(widens),
    "extra arguments": changed(reads_value),
    "masks": changed(forgets_the_mask),
    "bad tasks": changed(passes_nan_on),
    "no task left": changed(moves_on),
    "streaming": changed(doubles_what_streams),
    "own parameters": changed(moves_on),
}


@pytest.mark.parametrize("clause", BROKEN)
def test_a_clause_that_does_not_hold_is_named(clause):
    with pytest.raises(AssertionError, match=f"^{clause}: "):
        testing.assert_contract(BROKEN[clause], clauses=[clause])


def test_a_checkpoint_must_hold_all_that_is_kept():
    """A key that only one process has is in no file."""
    from dbmtl_jax.testing import _clauses, _subject

    subject = _subject.subject_of(dbmtl.ew, 3, 1e-5, 1e-6)
    calls = []

    def update(grads, state, losses, mask):
        calls.append(None)
        updates, state = subject.update(grads, state, losses, mask)
        return jax.tree.map(lambda u: u + len(calls), updates), state

    with pytest.raises(AssertionError):
        _clauses.check_checkpoints(subject._replace(update=update))


def test_what_is_not_changed_keeps_the_contract():
    def right(plain, grads, state, extra):
        updates, inner = plain(grads, **extra)
        return updates, (inner, state[1])

    testing.assert_contract(changed(right))


def test_an_unknown_clause_is_refused():
    with pytest.raises(ValueError, match="clauses: expected some of jit, scan"):
        testing.assert_contract(dbmtl.ew, clauses=["speed"])
