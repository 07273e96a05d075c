"""Programs for accelerators: `make test-accelerators` installs their compilers."""

import functools
import os

import jax
import pytest

from benchmarks.accelerators import hlo, targets
from benchmarks.errors import UserError

IS_REQUIRED = "DBMTL_ACCELERATORS" in os.environ  # `make test-accelerators` sets it
if IS_REQUIRED:
    targets.prepare()


@functools.cache
def device_of(name):
    return targets.devices(name)[0]


@pytest.fixture(params=["v5e", "h100"])
def compile_for(request):
    """(function, *trees of arrays) -> its program for a device that is not there."""
    try:
        device = device_of(request.param)
    except UserError as error:
        if IS_REQUIRED:
            raise
        pytest.skip(str(error))
    place = jax.sharding.SingleDeviceSharding(device)

    def compiled(function, *args):
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            jax.eval_shape(lambda: args),
        )
        return hlo.parse(jax.jit(function).lower(*shapes).compile().as_text())

    compiled.target = request.param
    return compiled
