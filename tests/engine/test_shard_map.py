"""Inside of `jax.shard_map`, of one device, which is enough for types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import dbmtl_jax as dbmtl


def inside(fun, in_specs, out_specs):
    mesh = jax.make_mesh((1, 1), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    return jax.shard_map(fun, mesh=mesh, in_specs=in_specs, out_specs=out_specs)


def losses_of(w):
    return [jnp.sum(w), jnp.sum(w**2)]


def test_parameters_may_differ_from_device_to_device_already():
    def rows(w):
        return dbmtl.value_and_task_grads(losses_of)(w)[1]

    found = jax.jit(inside(rows, P("x"), P(None, "x")))(jnp.arange(3.0))
    np.testing.assert_array_equal(found, [[1, 1, 1], [0, 2, 4]])


def test_all_axes_over_which_losses_differ_are_named():
    def losses(w):
        return dbmtl.value_and_task_grads(losses_of, stream=True)(w)[0]

    with pytest.raises(ValueError, match="losses that differ over the axes x, y; average"):
        jax.eval_shape(inside(losses, P("x", "y"), P()), jnp.ones((2, 3)))
