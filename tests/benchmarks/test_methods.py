"""Methods by their names on the command line."""

import jax
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from benchmarks import methods
from benchmarks.errors import UserError
from tests.helpers import samplers


def test_every_method_has_the_papers_name():
    assert set(methods.DISPLAY_NAMES) == {methods.BASELINE, *dbmtl.METHODS}
    assert methods.display_name("log+pcgrad") == "log + PCGrad"
    assert methods.display_name("uw+imtl_g") == "UW + IMTL-G"
    assert methods.display_name("mine") == "mine"


def test_unknown_names_are_refused():
    for good in ("stl", "db_mtl", "log+pcgrad", "log+igbv2+ew"):
        methods.check(good)
    with pytest.raises(UserError, match="unknown 'sgd', expected some of stl, ew"):
        methods.check("log+sgd")
    with pytest.raises(UserError, match=r"'mgda' before a \+, expected one of log, gls"):
        methods.check("mgda+pcgrad")


def test_chains_stand_after_their_last_method():
    names = ["log+pcgrad", "db_mtl", "nobody", "pcgrad", "stl"]
    assert sorted(names, key=methods.order) == ["stl", "log+pcgrad", "pcgrad", "db_mtl", "nobody"]


def test_a_chain_is_the_optax_chain_of_its_names():
    params = samplers.params_like()
    grads, losses = samplers.task_grads(3), samplers.losses(3)
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
    keys = [optax.tree.get(t.init(samplers.params_like()), "key") for t in (tx, other)]
    np.testing.assert_array_equal(*keys)
