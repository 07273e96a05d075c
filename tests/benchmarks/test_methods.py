"""Methods by their names on the command line."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from benchmarks import methods
from benchmarks.errors import UserError
from dbmtl_jax import testing


def test_every_method_has_the_papers_name():
    assert set(methods.DISPLAY_NAMES) == {methods.BASELINE, *dbmtl.METHODS}
    assert methods.display_name("log+pcgrad") == "log + PCGrad"
    assert methods.display_name("uw+imtl_g") == "UW + IMTL-G"
    assert methods.display_name("mine") == "mine"
    for name, shown in {
        "db_mtl@beta=0.5": "DB-MTL (β = 0.5)",
        "db_mtl@beta=0.1,sigma=0.5": "DB-MTL (β = 0.1/√k)",
        "db_mtl@scale=min": "DB-MTL (α = min)",
        "db_mtl@log_losses=false": "DB-MTL (no log)",
        "log+cagrad@c=0.4": "log + CAGrad (c = 0.4)",
    }.items():
        methods.check(name)
        assert methods.display_name(name) == shown


def test_former_names_are_understood():
    """Runs may have been recorded under them, alone, in chains and with options."""
    for former, current in {
        "scale_by_mtadam": "mtadam",
        "log+scale_by_mtadam@b1=0.8": "log+mtadam@b1=0.8",
        "db_mtl@scale=min": "db_mtl@scale=min",
        "stl": "stl",
    }.items():
        assert methods.current_name(former) == current
        assert former in methods.recorded_names(current)
        assert methods.recorded_names(current)[0] == current


def test_unknown_names_are_refused():
    for good in ("stl", "db_mtl", "log+pcgrad", "log+igbv2+ew"):
        methods.check(good)
    with pytest.raises(UserError, match="unknown 'sgd', expected some of stl, ew"):
        methods.check("log+sgd")
    with pytest.raises(UserError, match=r"'mgda' before a \+, expected one of log, gls"):
        methods.check("mgda+pcgrad")
    methods.check("log+db_mtl@log_losses=false")
    for twice in ("log+db_mtl", "log+uw", "uw+imtl", "log+db_mtl@beta=0.1", "log+rlw"):
        with pytest.raises(UserError, match=r"balances the losses itself, expected no loss bal"):
            methods.check(twice)
    with pytest.raises(UserError, match=r"'log\+log\+pcgrad': expected each loss balancer once"):
        methods.check("log+log+pcgrad")
    for name in ("log+stl", "stl@c=3", "stl@rate=1", "log+all", "beyond@rate=3"):
        with pytest.raises(UserError, match=f"'{re.escape(name)}': expected '.*' alone, as"):
            methods.check(name)
    with pytest.raises(UserError, match=r"'log\+': unknown '', expected some of"):
        methods.check("log+")
    with pytest.raises(UserError, match=r"has '' before a \+, expected one of log"):
        methods.check("+db_mtl")
    with pytest.raises(UserError, match="expected OPTION=VALUE after @, found 'c'"):
        methods.check("cagrad@c")
    with pytest.raises(UserError, match="cagrad has no option 'seed', expected one of c, rescale"):
        methods.check("cagrad@seed=3")
    with pytest.raises(UserError, match="grad_drop has no option 'measured', expected one of"):
        methods.check("grad_drop@measured=last")
    with pytest.raises(UserError, match=r"expected one of sigma, .*, wrt, measured, refresh"):
        methods.check("db_mtl@foo=1")
    with pytest.raises(UserError, match=r"'db_mtl@scale=big': scale: expected a number or one of"):
        methods.check("db_mtl@scale=big")


def test_chains_stand_after_their_last_method():
    names = ["log+pcgrad", "db_mtl", "nobody", "pcgrad", "stl"]
    assert sorted(names, key=methods.order) == ["stl", "log+pcgrad", "pcgrad", "db_mtl", "nobody"]


def test_a_chain_is_the_optax_chain_of_its_names():
    params = testing.sample_params()
    grads, losses = testing.sample_task_grads(3), testing.sample_losses(3)
    got, expected = (
        tx.update(grads, tx.init(params), params, losses=losses)[0]
        for tx in (
            methods.build("log+imtl_g", 3, steps_per_epoch=7),
            optax.chain(dbmtl.scale_by_log_loss(3), dbmtl.imtl_g(3)),
        )
    )
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_options_reach_the_factories_that_have_them():
    tx = methods.build("pcgrad", 3, seed=5, steps_per_epoch=7)
    other = dbmtl.pcgrad(3, seed=5)
    keys = [optax.tree.get(t.init(testing.sample_params()), "key") for t in (tx, other)]
    np.testing.assert_array_equal(*keys)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("db_mtl", lambda: dbmtl.db_mtl(3, dbmtl.inverse_power_schedule(0.9, 0.5))),
        ("db_mtl@beta=0.5", lambda: dbmtl.db_mtl(3, 0.5)),
        (
            "db_mtl@beta=0.5,sigma=1",
            lambda: dbmtl.db_mtl(3, dbmtl.inverse_power_schedule(0.5, 1.0)),
        ),
        ("db_mtl@beta=0,scale=min", lambda: dbmtl.db_mtl(3, 0.0, scale="min")),
        ("cagrad@c=0.2", lambda: dbmtl.cagrad(3, c=0.2)),
    ],
)
def test_options_in_a_name_reach_its_method(name, expected):
    params = testing.sample_params()
    updates = []
    for tx in (methods.build(name, 3, seed=1), expected()):
        state = tx.init(params)
        for seed in (0, 1, 2):  # a schedule shows from the second step
            update, state = tx.update(
                testing.sample_task_grads(3, seed=seed),
                state,
                params,
                losses=testing.sample_losses(3),
            )
        updates.append(update)
    jax.tree.map(np.testing.assert_array_equal, *updates)


@pytest.mark.parametrize(
    ("name", "shown", "gradients"),
    [
        ("db_mtl@wrt=representation", "DB-MTL (by ∂ℓ/∂z)", "representation"),
        ("nash_mtl@measured=last", "Nash-MTL (by last layer)", "pending"),
        ("imtl_g@refresh=10", "IMTL-G (every 10 steps)", "pending"),
        ("db_mtl@beta=0.5,refresh=4", "DB-MTL (β = 0.5, every 4 steps)", "pending"),
        ("mtadam@rate=0.5", "MTAdam (0.5 × the learning rate)", "stacked"),
        ("log+pcgrad", "log + PCGrad", "stacked"),
        ("uw", "UW", "pending"),
    ],
)
def test_options_that_make_a_method_cheaper(name, shown, gradients):
    methods.check(name)
    assert methods.display_name(name) == shown
    assert methods.gradients_of(name) == gradients
    assert methods.parse(name).is_usual == ("@" not in name)


@pytest.mark.parametrize(
    "name",
    [
        "db_mtl@wrt=z",
        "db_mtl@measured=first",
        "db_mtl@refresh=0",
        "db_mtl@refresh=often",
        "uw@measured=last",
        "mtadam@refresh=4",
        "moco@measured=last",
        "pcgrad@rate=0",
        "pcgrad@rate=1e999",
        "pcgrad@rate=fast",
        "stl@rate=3",
        "modo@wrt=representation",
        "db_mtl@refresh=4294967296",
        "pcgrad@rate=1,rate=2",
    ],
)
def test_forms_that_a_method_does_not_have_are_refused(name):
    with pytest.raises(UserError, match=f"--methods: '{name}'"):
        methods.check(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("db_mtl@log_losses=no", "log_losses: expected true or false, found 'no'"),
        ("db_mtl@debias=0", "debias: expected true or false, found 0"),
        ("cagrad@c=true", "c: expected a number .*, found True"),
        ("uw@initial=abc", "initial: expected a number .*, found 'abc'"),
        ("uw@initial=1e400", "initial: expected a number .*, found inf"),
        ("meta_balance@target=true", "target: expected a number .*, found True"),
        ("nash_mtl@update_every=99999999999999999999", "update_every: expected a number of a size"),
        ("db_mtl@scale=true", "scale: expected a number or a word, found True"),
        ("db_mtl@beta=1,beta=0.5", "expected beta once, found it twice"),
    ],
)
def test_values_that_an_option_cannot_have_are_refused(name, said):
    with pytest.raises(UserError, match=f"^--methods: '{name}': .*{said}"):
        methods.check(name)


def test_two_names_of_a_method_are_one():
    same = [
        "db_mtl@rate=3,beta=0.1",
        "db_mtl@beta=1e-1,rate=3.0",
        "ew",
        "ew@rate=1",
        "ew@refresh=1",
    ]
    assert methods.spelt_out(same) == (same[0], "ew")


def test_lists_of_methods():
    found = methods.spelt_out(["ew", "beyond", "scale_by_mtadam", "famo"])
    assert found == ("ew", *methods.BEYOND, "mtadam")
    found = methods.spelt_out(["all"])
    assert tuple(map(methods.row_name, found)) == tuple(methods.PAPER)
    assert set(found) - set(methods.PAPER) == {
        "moco@normalize=true,projection=softmax", "grad_drop@wrt=representation",
    }  # fmt: skip
    without = methods.spelt_out(["all"], shares_representation=False)
    assert set(without) - set(methods.PAPER) == {"moco@normalize=true,projection=softmax"}
    for name in found:
        methods.check(name)
    left_out = set(dbmtl.METHODS) - set(methods.PAPER) - set(methods.BEYOND)
    assert left_out == {"constant"}  # equal weighting, as a name has no weights


def test_a_balancer_would_see_one_of_two_batches():
    assert methods.gradients_of("modo") == "halves"
    with pytest.raises(UserError, match=r"'log\+modo': modo reads two batches"):
        methods.check("log+modo")


def test_forms_reach_the_method():
    made = methods.build("mgda@measured=last,refresh=3", 2, last_shared=lambda path: path == "b")
    assert made.name == "refresh_weights(mgda)"
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    b = jnp.array([[3.0, 4.0], [0.0, 1.0]])
    _, rows = dbmtl.value_and_task_grads(
        lambda params: 100 * jnp.sum(params["a"]) + b @ params["b"], stream=True
    )(params)
    _, state = made.update(rows, made.init(params), params)
    np.testing.assert_allclose(dbmtl.diagnostics(state).norms, [5, 1], rtol=1e-6)
