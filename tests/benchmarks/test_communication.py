"""What a data-parallel step sends."""

import json

import pytest

from tests.helpers.processes import printed_by


@pytest.fixture(scope="module")
def measured():
    """Two tiny steps, data parallel on two devices."""
    program = (
        "import jax, json; jax.config.update('jax_num_cpu_devices', 2);"
        "import tests.conftest; from benchmarks.perf.communication import measure;"
        "from benchmarks.training.mesh import AXES;"
        "mesh = jax.make_mesh((2, 1), AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2);"
        "rows = [measure(m, 4, 'vmap', 16, mesh) for m in ('ew', 'db_mtl')];"
        "print(json.dumps([r.as_json() for r in rows]))"
    )
    return json.loads(printed_by("-c", program))


def test_data_parallel_sends_a_gradient_for_each_task(measured):
    """And the losses, which are T numbers."""
    ew, db_mtl = (row["counts"]["collectives"]["all-reduce"] / 4 for row in measured)
    parameters = measured[0]["parameters"]
    assert parameters <= ew <= parameters + 8
    assert 4 * parameters <= db_mtl <= 4 * parameters + 8
