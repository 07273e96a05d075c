"""What the engine reads off jaxprs: fails where JAX changes a primitive's name or parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from dbmtl_jax.engine._jaxpr import contains, inlined, struct_of


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


def test_what_is_jitted_is_written_out_wherever_it_is():
    constant = jnp.arange(3.0)

    @jax.jit
    def inner(x):
        return jnp.sin(x) * constant

    @jax.jit
    def outer(x, y):
        return inner(x) + y, inner(y)

    closed = inlined(lambda x, y: outer(x, y), jnp.ones(3), jnp.ones(3))
    assert not contains(closed.jaxpr, "jit")
    assert str(closed.jaxpr).count("= sin") == 2
    found = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, jnp.ones(3), 2 * jnp.ones(3))
    np.testing.assert_allclose(found, outer(jnp.ones(3), 2 * jnp.ones(3)), rtol=1e-6)


@pytest.mark.parametrize("kind", [None, "explicit", "inside of shard_map"])
def test_a_struct_is_the_whole_type_of_a_variable(kind):
    """Also how it lies on a mesh, and over which axes it differs inside of shard_map."""

    def same(x):
        variable = jax.make_jaxpr(jnp.sin)(x).jaxpr.invars[0]
        again = jax.make_jaxpr(jnp.sin)(struct_of(variable)).jaxpr.invars[0]
        assert again.aval == variable.aval
        return x

    if kind is None:
        same(jnp.ones(2, jnp.bfloat16))
        return
    axis_type = AxisType.Explicit if kind == "explicit" else AxisType.Auto
    mesh = jax.make_mesh((1,), ("data",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        if kind == "explicit":
            same(jax.device_put(jnp.ones(2), P("data")))
        else:
            mapped = jax.shard_map(same, in_specs=P("data"), out_specs=P("data"))
            jax.eval_shape(mapped, jnp.ones(2))
