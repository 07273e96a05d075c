"""Convolutions: their gradients, and the layout that XLA's CPU backend is quick with."""

import re

import chex
import jax
import jax.numpy as jnp
import pytest
from jax import lax

import dbmtl_jax as dbmtl

T = 2
# (layouts of images, filters and output), and arguments of the convolution
CASES = {
    "NHWC": (("NHWC", "HWIO", "NHWC"), {}),
    "NCHW": (("NCHW", "OIHW", "NCHW"), {}),
    "a layout of its own": (("CWNH", "OHIW", "NHCW"), {}),
    "strides": (("NHWC", "HWIO", "NHWC"), {"window_strides": (2, 1)}),
    "dilated filters": (("NHWC", "HWIO", "NHWC"), {"rhs_dilation": (1, 2)}),
    "dilated images": (
        ("NCHW", "HWIO", "NHWC"),
        {"lhs_dilation": (2, 1), "padding": ((1, 1), (1, 1))},
    ),
    "padding": (("NHWC", "HWIO", "NHWC"), {"padding": ((2, 0), (0, 1))}),
    "groups": (("NHWC", "HWIO", "NHWC"), {"feature_group_count": 2}),
    "one axis": (("NHC", "HIO", "NHC"), {"window_strides": (2,)}),
}
SIZES = {"N": 3, "H": 6, "W": 5, "C": 4}
KEYS = jax.random.split(jax.random.key(0), 3)


def problem(layouts, options):
    """Losses behind two convolutions, with filters [3, 2, 4, 4] or [3, 4, 4]."""
    images, filters, _ = layouts
    x = jax.random.normal(KEYS[0], [SIZES[axis] for axis in images])
    groups = options.get("feature_group_count", 1)
    sizes = {"H": 3, "W": 2, "I": SIZES["C"] // groups, "O": 4}
    options = {"window_strides": (1,) * (x.ndim - 2), "padding": "SAME"} | options
    first, second = (jax.random.normal(key, [sizes[axis] for axis in filters]) for key in KEYS[1:])

    def losses(params):
        z = x
        for filter_ in params:
            axes = lax.conv_dimension_numbers(z.shape, filter_.shape, layouts)
            z = jnp.tanh(lax.conv_general_dilated(z, filter_, dimension_numbers=axes, **options))
            z = jnp.transpose(z, [layouts[2].index(axis) for axis in images])
        return [jnp.mean(z**2), jnp.mean(jnp.sin(3 * z))]

    return losses, (first, second)


@pytest.mark.parametrize("mode", ["unroll", "loop", "vmap"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_jax(case, mode):
    losses, params = problem(*CASES[case])
    _, grads = jax.jit(dbmtl.value_and_task_grads(losses, mode=mode))(params)
    rows = [jax.grad(lambda p, t=t: losses(p)[t])(params) for t in range(T)]
    expected = jax.tree.map(lambda *r: jnp.stack(r), *rows)
    chex.assert_trees_all_close(grads, expected, rtol=1e-5, atol=1e-6)


def layouts_of(fun, *args):
    """The layouts of all convolutions in the compiled program."""
    text = jax.jit(fun).lower(*args).compile().as_text()
    return set(re.findall(r"dim_labels=(\S+?)[,\s]", text))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU backend")
@pytest.mark.parametrize("case", ["NHWC", "NCHW", "strides"])
@pytest.mark.parametrize("form", ["loop", "refresh_weights"])
def test_convolutions_in_loops_and_branches_have_the_quick_layout(case, form):
    """Tens of times as quick; the backend itself sees to those outside of them alone."""
    losses, params = problem(*CASES[case])
    tx = dbmtl.db_mtl(T, average="norms")
    tx = dbmtl.refresh_weights(tx, 2) if form == "refresh_weights" else tx

    def step(params, state):
        mode = {"stream": True} if form == "refresh_weights" else {"mode": "loop"}
        values, grads = dbmtl.value_and_task_grads(losses, **mode)(params)
        return tx.update(grads, state, params, losses=values)

    assert layouts_of(step, params, tx.init(params)) == {"b01f_01io->b01f"}

    def as_jax_does(params):
        return lax.map(lambda one: jax.vjp(losses, params)[1]([one, -one])[0], jnp.ones(T))

    assert layouts_of(as_jax_does, params) != {"b01f_01io->b01f"}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU backend")
def test_unrolled_convolutions_are_as_jax_transposes_them():
    """Outside of loops the backend lays them out, and does it better."""
    losses, params = problem(*CASES["NCHW"])

    def layouts_in(fun):
        text = str(jax.make_jaxpr(fun)(params))
        return sorted(re.findall(r"dimension_numbers=ConvDimensionNumbers\(.*?\)\)", text))

    def rows(mode, stream):
        def computed(params):
            _, grads = dbmtl.value_and_task_grads(losses, mode=mode, stream=stream)(params)
            return grads.stacked() if stream else grads

        return computed

    of_jax = set(layouts_in(jax.jacrev(losses)))
    assert of_jax
    for stream in (False, True):
        assert set(layouts_in(rows("unroll", stream))) == of_jax
        assert set(layouts_in(rows("loop", stream))) != of_jax


def test_other_platforms_have_the_layouts_of_jax():
    """What counts is the platform that is compiled for, not the one that compiles."""
    losses, params = problem(*CASES["NCHW"])

    def layouts_for(platform, fun):
        text = jax.jit(fun).trace(params).lower(lowering_platforms=(platform,)).as_text()
        return set(re.findall(r"dim_numbers = (\[.*?\]x\[.*?\]->\[.*?\])", text))

    def rows(params):
        return dbmtl.value_and_task_grads(losses, mode="loop")(params)[1]

    of_jax = layouts_for("tpu", jax.jacrev(losses))
    assert of_jax
    assert layouts_for("tpu", rows) == of_jax
    assert layouts_for("cpu", rows) != of_jax
