"""Collectives are found in the text of a compiled program."""

import json

import pytest

from benchmarks.perf.communication import collectives
from tests.helpers.processes import printed_by

TEXT = """
  %all-reduce.1 = f32[3,8]{1,0} all-reduce(%x), channel_id=1, to_apply=%add
  %both = (f32[4]{0}, bf16[2,2]{1,0}) all-reduce(%a, %b), to_apply=%add
  ROOT %g = f32[16]{0} all-gather(%c), dimensions={0}
  %use = f32[] fusion(%all-reduce.1), calls=%f
  %p = pred[5]{0} collective-permute(%d)
"""


def test_every_collective_counts_once_with_its_result():
    # pred has no number of bits in its name.
    assert collectives(TEXT) == {
        "all-reduce": 96 + 16 + 8,
        "all-gather": 64,
        "collective-permute": 5,
    }


def test_asynchronous_collectives_are_refused():
    with pytest.raises(ValueError, match="found all-gather-start"):
        collectives("  %g = (f32[8]{0}, f32[16]{0}) all-gather-start(%c), dimensions={0}")


@pytest.fixture(scope="module")
def measured():
    """Two tiny steps, data parallel on two devices."""
    program = (
        "import jax, json; jax.config.update('jax_num_cpu_devices', 2);"
        "import tests.conftest; from benchmarks.perf.communication import measure;"
        "rows = [measure(m, 4, 16, 2, 1) for m in ('ew', 'db_mtl')];"
        "print(json.dumps([r._asdict() for r in rows]))"
    )
    return json.loads(printed_by("-c", program))


def test_data_parallel_sends_a_gradient_for_each_task(measured):
    """And the losses, which are T numbers."""
    ew, db_mtl = (row["collectives"]["all-reduce"] / 4 for row in measured)
    parameters = measured[0]["num_parameters"]
    assert parameters <= ew <= parameters + 8
    assert 4 * parameters <= db_mtl <= 4 * parameters + 8
