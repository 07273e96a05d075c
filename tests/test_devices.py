"""The library on eight virtual devices gives what it gives on one."""

import json

import pytest

import dbmtl_jax as dbmtl
from tests.helpers.processes import printed_by

TOLERANCE = 1e-5
MAGNIFIED = {"aligned_mtl": 30}
"""Where small eigenvalues magnify what the order of additions changes."""


def run(module):
    """What a program with devices of its own prints."""
    return json.loads(printed_by("-W", "error", "-m", module).splitlines()[-1])


@pytest.fixture(scope="module")
def found():
    return run("tests.helpers.many_devices")


def test_task_grads_inside_of_shard_map_are_those_of_one_device():
    """Losses and gradients averaged afterwards, or losses inside, as JAX has it by default."""
    found = run("tests.helpers.shard_map_run")
    message = found.pop("refused")
    assert "losses that differ over the axes data; average them within the function" in message
    assert len(found) > 20
    assert all(value < TOLERANCE for value in found.values()), found


@pytest.mark.parametrize("method", dbmtl.METHODS)
def test_a_divided_step_is_that_of_one_device(found, method):
    """Updates, parameters and states of three steps, relative to the largest entry."""
    measured = found["methods"][method]
    assert measured["error"] < TOLERANCE * MAGNIFIED.get(method, 1)
    assert measured["compilations"] == 1
    # The three parameters, and at least one moment of the optimizer of each.
    assert measured["divided"] >= 6
    assert measured["on_tasks"] == 0


def test_losses_are_averaged_over_devices_before_the_logarithm(found):
    assert found["shard_map"]["right"] < TOLERANCE
    assert found["shard_map"]["wrong"] > 0.01
