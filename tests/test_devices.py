"""The library on eight virtual devices gives what it gives on one."""

import json
import pathlib
import re
import socket

import numpy as np
import pytest

import dbmtl_jax as dbmtl
from benchmarks.methods import BASELINE, PAPER
from tests.helpers.processes import PYTHON, finish, printed_by, started

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "devices.md").read_text("utf-8")
TOLERANCE = 1e-5
MAGNIFIED = {"aligned_mtl": 30}
"""Where small eigenvalues magnify what the order of additions changes."""


BEYOND = [pytest.param(name, marks=pytest.mark.slow) for name in dbmtl.METHODS if name not in PAPER]
METHODS = [*(name for name in PAPER if name != BASELINE), *BEYOND]


def run(module, *arguments):
    """What a program with devices of its own prints."""
    return json.loads(printed_by("-W", "error", "-m", module, *arguments).splitlines()[-1])


@pytest.fixture(scope="module")
def found():
    return run("tests.helpers.many_devices")


@pytest.fixture(scope="module")
def beyond():
    return run("tests.helpers.many_devices", *(parameter.values[0] for parameter in BEYOND))


@pytest.fixture
def measured(method, request):
    """A method's row; those that the paper does not compare come out of a program of their own."""
    return request.getfixturevalue("found" if method in PAPER else "beyond")["methods"][method]


def test_task_grads_inside_of_shard_map_are_those_of_one_device():
    """Losses and gradients averaged afterwards, or losses inside, as JAX has it by default."""
    found = run("tests.helpers.shard_map_run")
    message = found.pop("refused")
    assert "losses that differ over the axes data; average them within the function" in message
    assert len(found) > 20
    assert all(value < TOLERANCE for value in found.values()), found


@pytest.mark.parametrize("method", METHODS)
def test_a_divided_step_is_that_of_one_device(measured, method):
    """Updates, parameters and states of three steps, relative to the largest entry."""
    assert measured["error"] < TOLERANCE * MAGNIFIED.get(method, 1)
    assert measured["compilations"] == 1
    # The three parameters, and at least one moment of the optimizer of each.
    assert measured["divided"] >= 6
    assert measured["on_tasks"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_step_on_explicit_axes_is_that_of_one_device(measured, method):
    """As `jax.make_mesh` makes them; what is not run there is traced, or the program fails."""
    assert measured["explicit"]
    for error, compilations in measured["explicit"].values():
        assert error < TOLERANCE * MAGNIFIED.get(method, 1)
        assert compilations == 1


def test_engine_functions_on_explicit_axes_are_those_of_one_device(found):
    """Losses and gradients in every mode, stacked and streamed."""
    assert len(found["engines"]) == 13
    assert all(value < TOLERANCE for value in found["engines"].values()), found["engines"]


def test_losses_are_averaged_over_devices_before_the_logarithm(found):
    assert found["shard_map"]["right"] < TOLERANCE
    assert found["shard_map"]["wrong"] > 0.01


def test_the_pages_example_of_explicit_axes_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    program = f"{code}\nprint(jax.device_count(), *params['w'].sharding.spec, step._cache_size())"
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    with started("-W", "error", "-c", program, environment=flags) as process:
        printed = finish(process)
    assert printed.split("\n")[-2] == "8 None fsdp 1"


def test_the_pages_command_trains_with_two_processes_as_with_one():
    """Also what only the first of them prints."""
    (command,) = re.findall(r"```bash\n(.*?)\n```", PAGE, re.DOTALL)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        command = command.replace(":9000", f":{found.getsockname()[1]}")
    alone = "import runpy; runpy.run_path('examples/several_processes.py')['main']()"
    printed = []
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    for program, text in (("bash", command), (PYTHON, alone)):
        with started("-c", text, program=program, environment=flags) as process:
            printed.append(finish(process))
    lines = [re.findall(r"step \d+ on (\d) devices: losses \[(.*)\]", text) for text in printed]
    assert [[devices for devices, _ in found] for found in lines] == [["2"] * 4, ["1"] * 4], printed
    two, single = ([np.fromstring(text, sep=" ") for _, text in found] for found in lines)
    np.testing.assert_allclose(two, single, rtol=1e-3)
