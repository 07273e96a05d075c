"""The timing program runs and its table says what the record says; no time is asserted."""

import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

import dbmtl_jax as dbmtl
from benchmarks.config import Perf
from benchmarks.perf import steps


def test_ratios_are_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "_MLP_WIDTHS", (4, 8, 6))
    monkeypatch.setattr(steps, "_MLP_BATCH", 4)
    config = Perf(networks=("mlp",), num_tasks=(2,), rounds=1, out=tmp_path)
    output = io.StringIO()
    steps.perf(config, Console(file=output, width=120))
    record = json.loads((tmp_path / "perf.json").read_text())
    assert [row["mode"] for row in record["rows"]] == ["EW", "unroll", "loop", "vmap"]
    assert record["rows"][0]["ratio"] == 1
    for row in record["rows"]:
        assert f"{row['ratio']:.2f}" in output.getvalue()


@pytest.mark.parametrize("mode", ["unroll", "loop"])
def test_the_timed_steps_do_what_they_claim(mode, monkeypatch):
    """The timed network's task gradients are a loop of `jax.grad`."""
    monkeypatch.setattr(steps, "_MLP_WIDTHS", (4, 8, 6))
    network = steps.mlp(2)
    losses, grads = network.task_grads(mode)(network.params, network.batch)
    for task in range(2):
        expected = jax.grad(lambda p, t=task: network.losses(p, network.batch)[t])(network.params)
        norm = dbmtl.task_norms(jax.tree.map(lambda g: g[None], expected[0]))[0]
        np.testing.assert_allclose(dbmtl.task_norms(grads[0])[task], norm, rtol=1e-4)
    np.testing.assert_allclose(losses, network.losses(network.params, network.batch), rtol=1e-5)
