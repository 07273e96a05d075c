"""What the engine reads off jaxprs: fails where JAX changes a primitive's name or parameters."""

import jax
import jax.numpy as jnp
import pytest

from dbmtl_jax.engine._jaxpr import contains, dependencies


def reads(fun, *args):
    """For every output, the arguments it depends on."""
    return [sorted(found) for found in dependencies(jax.make_jaxpr(fun)(*args).jaxpr)]


@jax.custom_jvp
def doubled(x):
    return 2 * x


doubled.defjvp(lambda primals, tangents: (2 * primals[0], 2 * tangents[0]))


@jax.custom_vjp
def tripled(x):
    return 3 * x


tripled.defvjp(lambda x: (3 * x, None), lambda _, g: (3 * g,))

WRAPPERS = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "custom_jvp": lambda f: lambda a, b: tuple(doubled(x) for x in f(a, b)),
    "custom_vjp": lambda f: lambda a, b: tuple(tripled(x) for x in f(a, b)),
    "vmap": lambda f: lambda a, b: tuple(x[0] for x in jax.vmap(f)(a[None], b[None])),
    "cond": lambda f: lambda a, b: jax.lax.cond(True, f, lambda a, b: (a * 1, b * 1), a, b),
    "scan": lambda f: lambda a, b: jax.lax.scan(lambda c, _: (f(*c), None), (a, b), None, 3)[0],
    "while": lambda f: (
        lambda a, b: jax.lax.while_loop(
            lambda c: c[0] < 2, lambda c: (c[0] + 1, *f(*c[1:])), (0, a, b)
        )[1:]
    ),
    "fori": lambda f: lambda a, b: jax.lax.fori_loop(0, 3, lambda _, c: f(*c), (a, b)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_outputs_are_told_apart(wrapper):
    fun = WRAPPERS[wrapper](lambda a, b: (jnp.sin(a), a * b))
    assert reads(fun, 1.0, 2.0) == [[0], [0, 1]]


def test_a_loop_passes_dependencies_round():
    """The carry is a, b, c = b, c, a: after three rounds each depends on all."""

    def fun(a, b, c):
        carry, _ = jax.lax.scan(lambda x, _: ((x[1], x[2], x[0]), None), (a, b, c), None, 4)
        return carry[0]

    assert reads(fun, 1.0, 2.0, 3.0) == [[0, 1, 2]]


def test_a_scan_reads_what_it_scans():
    def fun(a, xs, b):
        total, ys = jax.lax.scan(lambda c, x: (c + x * a, x + 1), b, xs)
        return total, ys

    assert reads(fun, 1.0, jnp.ones(3), 2.0) == [[0, 1, 2], [1]]


def test_what_has_no_derivative_is_no_dependency():
    def fun(a, b):
        index = jnp.argmax(b)
        return a * jax.lax.stop_gradient(b).sum(), a + b[index], a[None] * (b > 0)

    assert reads(fun, 1.0, jnp.ones(3)) == [[0], [0, 1], [0]]


def test_constants_and_literals_are_none():
    constant = jnp.arange(3.0)
    assert reads(lambda a: (constant.sum(), 1.0, a * constant), 1.0) == [[], [], [0]]


def test_an_unknown_primitive_depends_on_everything():
    def fun(a, b):
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(lambda a, b: a, shape, a, b)

    assert reads(fun, jnp.float32(1), jnp.float32(2)) == [[0, 1]]


@pytest.mark.parametrize("wrapper", ["plain", "jit", "checkpoint", "cond", "scan", "while"])
def test_primitives_are_found_wherever_they_are(wrapper):
    fun = WRAPPERS[wrapper](lambda a, b: (jnp.sin(a), a * b))
    jaxpr = jax.make_jaxpr(fun)(1.0, 2.0).jaxpr
    assert contains(jaxpr, "sin")
    assert not contains(jaxpr, "conv_general_dilated")


def test_convolutions_and_functions_without_forward_mode_have_these_names():
    image, kernel = jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 2, 2))
    convolved = jax.make_jaxpr(lambda x: jax.lax.conv(x, kernel, (1, 1), "SAME"))(image)
    assert contains(convolved.jaxpr, "conv_general_dilated")
    linear = jax.linearize(tripled, 1.0)[1]
    assert contains(jax.make_jaxpr(linear)(1.0).jaxpr, "custom_lin")
