"""The timing program runs and its table says what the record says; no time is asserted."""

import dataclasses
import functools
import io
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import dbmtl_jax as dbmtl
from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.perf import aggregation, compilation, mlp, peers, resnet, steps, transformation
from benchmarks.perf.command import perf
from benchmarks.perf.measurement import Figure, Goal, Measurement


def test_ratios_are_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(mlp, "_WIDTHS", (4, 8, 6))
    monkeypatch.setattr(mlp, "_BATCH", 4)
    small = functools.partial(transformation.measure, num_leaves=2, side=4)
    monkeypatch.setattr(transformation, "measure", small)
    small = functools.partial(aggregation.measure, num_leaves=2, side=4)
    monkeypatch.setattr(aggregation, "measure", small)
    monkeypatch.setattr(aggregation, "METHODS", ("mgda", "upgrad"))
    monkeypatch.setattr(compilation, "METHODS", ("ew", "db_mtl"))
    config = Perf(networks=("mlp",), num_tasks=(2,), rounds=1, out=tmp_path / "new")
    output = io.StringIO()
    perf(config, Console(file=output, width=160))
    record = json.loads((tmp_path / "new" / "perf.json").read_text())
    assert [row["name"] for row in record["steps"]] == [
        "EW", "rows", "readme", "unroll", "loop", "vmap", "stream",
        "representation", "measured", "refresh4", "refresh16",
    ]  # fmt: skip
    ratios = [row["figures"]["over_ew"] for row in record["steps"]]
    assert ratios[0] == {"value": 1, "spread": [1, 1]}
    assert [ratio.get("target") for ratio in ratios[:3]] == [None, None, 1.85]
    assert record["steps"][0]["figures"]["memory"]["value"] == 0
    for ratio in ratios:
        assert ratio.get("verdict", "") in output.getvalue()
        assert f"{ratio['value']:.2f}" in output.getvalue()
    (row,) = record["transformation"]
    assert (row["num_tasks"], row["figures"]["parameters"]["value"]) == (2, 32)
    assert f"{row['figures']['over_triad']['value']:.2f}" in output.getvalue()
    assert [row["name"] for row in record["aggregation"]] == list(aggregation.METHODS)
    for row in record["aggregation"]:
        assert f"{row['figures']['over_ew']['value']:.2f}" in output.getvalue()
        assert "over_theirs" not in row["figures"]
    *each, many = record["compilation"]
    assert [row["name"] for row in each] == ["ew", "db_mtl"]
    assert all(row["figures"]["programs"]["value"] == 1 for row in record["compilation"])
    first_step = many["figures"]["first_step_seconds"]
    assert (many["num_tasks"], first_step["target"]) == (40, 10)
    best = min(record["steps"][3:7], key=lambda row: row["figures"]["over_ew"]["value"])
    ratio = best["figures"]["over_ew"]
    goals = " ".join((tmp_path / "new" / "goals.md").read_text().split())
    cells = f"({best['name']}) | 2 | 1.75 | 2 | {ratio['value']:.2f} | {ratio['verdict']} |"
    assert cells in goals
    assert goals.count("mlp: step over EW's") == 2  # and the README's
    assert f"{first_step['value']:.2f} | {first_step['verdict']} |" in goals


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_nothing_to_measure_is_written_too(tmp_path):
    nothing = {"transformation": False, "aggregation": False, "compilation": False}
    output = io.StringIO()
    perf(Perf(networks=(), out=tmp_path, **nothing), Console(file=output))
    assert list(json.loads((tmp_path / "perf.json").read_text())) == ["environment"]
    assert "verdict" in (tmp_path / "goals.md").read_text()
    assert "┃" not in output.getvalue()


def test_torchjd_is_timed_in_turns(tmp_path, monkeypatch):
    """A stand-in for the interpreter takes a tenth of a second for everything, and has no MGDA."""
    python = executable(
        tmp_path / "python",
        "#!/bin/sh\necho torch 9\nwhile read name; do\n"
        "if [ $name = MGDA ]; then echo missing: cvxpy; else sleep 0.1; echo done; fi\ndone\n",
    )
    monkeypatch.setattr(aggregation, "METHODS", ("mgda", "pcgrad", "upgrad"))
    rows, missing = aggregation.measure(2, python, num_leaves=1, side=3, rounds=1)
    assert missing == ["TorchJD's MGDA: missing: cvxpy"]
    for row in rows:
        values = {quantity: figure.value for quantity, figure in row.figures.items()}
        if row.name == "mgda":
            assert not {"their_milliseconds", "over_theirs"} & set(values)
        else:
            theirs = values["their_milliseconds"]
            assert theirs >= 100
            assert values["over_theirs"] == pytest.approx(values["milliseconds"] / theirs)


def test_a_torchjd_that_fails_is_one_line(tmp_path):
    broken = executable(tmp_path / "python", "#!/bin/sh\necho no torch here >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"torchjd_worker.py failed: no torch here"):
        aggregation.open_torchjd(broken, 2, 9)
    with pytest.raises(UserError, match="--torch-python: cannot run"):
        aggregation.open_torchjd(tmp_path / "nothing", 2, 9)


def test_peers_are_timed_beside_the_streamed_step(tmp_path, monkeypatch):
    """A stand-in for PyTorch has no LibMTL; every turn is taken, and its time is made up."""

    def in_turns(turns, rounds):
        for turn in turns.values():
            turn()
        return {name: [0.03 if name == "ours" else 0.1] * rounds for name in turns}

    monkeypatch.setattr(peers, "in_turns", in_turns)
    monkeypatch.setattr(mlp, "_WIDTHS", (4, 8, 6))
    monkeypatch.setattr(mlp, "_BATCH", 4)
    python = executable(
        tmp_path / "python",
        "#!/bin/sh\necho torch 9\nwhile read network tasks peer; do\n"
        "if [ $peer = libmtl ]; then echo missing LibMTL; else echo done; fi\ndone\n",
    )
    config = Perf(
        networks=("mlp", "qm9"),
        num_tasks=(2,),
        modes=(),
        rounds=2,
        transformation=False,
        aggregation=False,
        compilation=False,
        peers=True,
        torch_python=python,
        out=tmp_path,
    )
    monkeypatch.setattr(steps, "measure", lambda *_: [])
    output = io.StringIO()
    perf(config, Console(file=output, width=160))
    rows = json.loads((tmp_path / "perf.json").read_text())["peers"]
    assert [row["name"] for row in rows] == ["loop", "torchjd", "torchjd-sequential"]
    for row in rows:
        values = {quantity: figure["value"] for quantity, figure in row["figures"].items()}
        assert values == {
            "milliseconds": pytest.approx(30),
            "their_milliseconds": pytest.approx(100),
            "over_theirs": pytest.approx(0.3),
            "their_over_ew": 1,
        }
        verdict = row["figures"]["over_theirs"].get("verdict", "")
        assert verdict == ("met" if row["name"].startswith("torchjd") else "")
    assert "TorchJD, one task at a time" in output.getvalue()
    assert "not timed: LibMTL: missing LibMTL" in output.getvalue()
    with pytest.raises(UserError, match="--peers needs --torch-python"):
        perf(dataclasses.replace(config, torch_python=None), Console(file=output))


def test_the_unchecked_arithmetic_is_the_transformations():
    """What the transformation is compared with does the same work."""
    grads = [jax.random.normal(jax.random.key(i), (3, 4, 5)) for i in range(2)]
    losses = jnp.array([0.5, 2.0, 3.0])
    tx = dbmtl.db_mtl(3, 0.9)
    expected, _ = tx.update(grads, tx.init([g[0] for g in grads]), losses=losses)
    updates, _ = transformation.unchecked([jnp.zeros_like(g) for g in grads], grads, losses)
    chex.assert_trees_all_close(updates, expected, rtol=1e-5)


def test_verdicts():
    """Between target and failure a goal is missed; at the failure level it has failed."""
    for goal, values in (
        (Goal(2.0, 3.0), (1, 2, 2.5, 3, 4)),
        (Goal(1.0, 0.8), (2, 1, 0.9, 0.8, 0)),
    ):
        found = [goal.verdict(value) for value in values]
        assert found == ["met", "met", "missed", "failed", "failed"]
    assert [Goal(10, 10).verdict(value) for value in (3, 10, 11)] == ["met", "met", "failed"]
    assert Figure(1.0).verdict == ""
    assert Figure(1.0, goal=Goal(2.0, 3.0)).verdict == "met"
    assert Figure(1.0).as_json() == {"value": 1.0}


def test_a_resnet_is_timed(monkeypatch):
    """In a small image."""
    monkeypatch.setattr(resnet, "_SIDE", 32)
    monkeypatch.setattr(resnet, "_BATCH", 2)
    network = resnet.resnet(2)
    losses, grads = jax.eval_shape(network.task_grads("unroll"), network.params, network.batch)
    assert losses.shape == (2,)
    assert {g.shape[0] for g in jax.tree.leaves(grads[0])} == {2}


@pytest.mark.parametrize("mode", ["unroll", "loop"])
def test_the_timed_steps_do_what_they_claim(mode, monkeypatch):
    """The timed network's task gradients are a loop of `jax.grad`."""
    monkeypatch.setattr(mlp, "_WIDTHS", (4, 8, 6))
    network = mlp.mlp(2)
    losses, grads = network.task_grads(mode)(network.params, network.batch)
    for task in range(2):
        expected = jax.grad(lambda p, t=task: network.losses(p, network.batch)[t])(network.params)
        norm = dbmtl.task_norms(jax.tree.map(lambda g: g[None], expected[0]))[0]
        np.testing.assert_allclose(dbmtl.task_norms(grads[0])[task], norm, rtol=1e-4)
    np.testing.assert_allclose(losses, network.losses(network.params, network.batch), rtol=1e-5)


def test_peers_meet_the_best_mode():
    rows = [
        Measurement("mlp", 2, mode, {"over_ew": Figure(ratio)})
        for mode, ratio in (
            ("EW", 1.0),
            ("rows", 1.5),
            ("loop", 3.0),
            ("unroll", 2.0),
            ("stream", 2.5),
        )
    ]
    assert steps.best_mode(rows, "mlp", 2) == "unroll"
    assert steps.best_mode(rows, "mlp", 3) == "stream"
    assert steps.best_mode(rows[:2], "mlp", 2) == "stream"
