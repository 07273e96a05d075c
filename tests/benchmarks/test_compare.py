"""The command as a user runs it, on tiny molecules: table, plots, JSON, and what it refuses."""

import contextlib
import dataclasses
import io
import json
import math
import re
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks import __main__ as command_line
from benchmarks import methods, step_times
from benchmarks.compare import compare, run_missing
from benchmarks.config import Compare, Perf
from benchmarks.errors import UserError
from benchmarks.problems import qm9
from benchmarks.problems.datasets import DATASETS
from benchmarks.report.records import study
from benchmarks.report.tables.printed import paper_table
from tests.benchmarks.conftest import changed


def run(config: Compare) -> str:
    output = io.StringIO()
    compare(config, Console(file=output, width=200, markup=False))
    return output.getvalue()


def train(config: Compare) -> str:
    """The first half of the command, without the report: plots take seconds to draw."""
    output = io.StringIO()
    run_missing(config, Console(file=output, width=200, markup=False))
    return output.getvalue()


@contextlib.contextmanager
def without_drawing():
    """Pictures are empty files: drawing them takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, path, **_: path.write_bytes(b""))
        yield


def test_a_comparison_from_start_to_table(tiny):
    config = dataclasses.replace(tiny, seeds=2)
    printed = run(config)
    for text in ("STL", "DB-MTL", "EW, paper", "Δp (%)", "⟨R²⟩", "guessed from the geometry"):
        assert text in printed
    names = {path.name for path in config.out.iterdir()}
    plots = ("losses", "gradient_norms", "validation", "delta_p", "delta_p_and_time",
             "cosine_similarity")  # fmt: skip
    assert names == {
        "config.json", "table.md", "table.tex", "report.html",
        *(f"{plot}.{suffix}" for plot in plots for suffix in ("png", "svg")),
        *(f"{m}-seed{s}.jsonl" for m in ("stl", "ew", "db_mtl") for s in (0, 1)),
    }  # fmt: skip
    assert all(path.stat().st_size > 5_000 for path in config.out.glob("*.png"))

    # The table's figures, recomputed from the JSON lines.
    def last(method, seed):
        lines = (config.out / f"{method}-seed{seed}.jsonl").read_text().splitlines()
        return np.array(json.loads(lines[-1])["test"])[:, 0]

    baseline = (last("stl", 0) + last("stl", 1)) / 2
    deltas = [100 * np.mean((baseline - last("db_mtl", s)) / baseline) for s in (0, 1)]
    row = next(
        line
        for line in (config.out / "table.md").read_text().splitlines()
        if line.startswith("| DB-MTL |")
    )
    cells = [cell.strip("*<u>/ ") for cell in row.split("|")]
    assert f"{np.mean(deltas):.2f} ± {np.std(deltas, ddof=1):.2f}" in cells
    outcome = next(o for o in study.load(config.out).outcomes if o.method == "db_mtl")
    np.testing.assert_allclose(outcome.delta_p, deltas, rtol=1e-6)
    np.testing.assert_allclose(outcome.test, [last("db_mtl", 0), last("db_mtl", 1)])

    # A second call trains nothing.
    before = {path: path.stat().st_mtime_ns for path in config.out.glob("*.jsonl")}
    again = train(config)
    assert "all runs are complete" in again
    assert before == {path: path.stat().st_mtime_ns for path in config.out.glob("*.jsonl")}


def test_an_interrupted_run_is_repeated_and_a_method_can_be_added(tiny):
    train(dataclasses.replace(tiny, methods=("stl",)))
    broken = tiny.out / "ew-seed0.jsonl"
    broken.write_text('{"kind": "start"}\n')
    printed = train(dataclasses.replace(tiny, methods=("ew",)))
    assert "STL, seed 0" not in printed
    assert json.loads(broken.read_text().splitlines()[-1])["kind"] == "result"


def test_the_same_seed_gives_the_same_figures(tiny, tmp_path):
    tests = []
    for name in ("a", "b"):
        config = dataclasses.replace(tiny, out=tmp_path / name, methods=("stl", "db_mtl"))
        train(config)
        tests.append([outcome.test for outcome in study.load(config.out).outcomes])
    np.testing.assert_array_equal(*tests)


def test_what_a_user_can_mend_is_one_line(tiny):
    with pytest.raises(UserError, match="--methods: 'sgd': unknown 'sgd', expected some of stl"):
        run(dataclasses.replace(tiny, methods=("sgd",)))
    with pytest.raises(UserError, match=r"stl is missing, and .* has no finished run of it"):
        run(dataclasses.replace(tiny, methods=("db_mtl",)))
    with pytest.raises(UserError, match="--seeds: expected at least 1"):
        run(dataclasses.replace(tiny, seeds=0))
    for option, low, changed_to in (
        ("train.epochs", 1, changed(tiny, epochs=0)),
        ("train.batch-size", 1, changed(tiny, batch_size=-4)),
        ("train.log-every", 1, changed(tiny, log_every=0)),
        ("time-steps", 0, dataclasses.replace(tiny, time_steps=-1)),
        ("width", 1, dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, width=0))),
    ):
        with pytest.raises(UserError, match=f"^--{option}: expected at least {low}, found "):
            run(changed_to)
    with pytest.raises(
        UserError, match=r"^--train.learning-rate: expected a number above 0, found"
    ):
        run(changed(tiny, learning_rate=math.nan))
    assert not tiny.out.exists()
    train(dataclasses.replace(tiny, methods=("stl",)))
    with pytest.raises(UserError, match=r"train.epochs is 3 there and 4 here"):
        run(changed(tiny, epochs=4))


def test_missing_data_ends_the_command_with_one_line(tiny, monkeypatch, capsys):
    def missing(*_):
        raise UserError(f"QM9 needs the package qm9pack: {qm9.INSTALL}")

    monkeypatch.setattr(qm9, "load", missing)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "compare", "qm9", "--out", str(tiny.out)])
    with pytest.raises(SystemExit) as exit_:
        command_line.main()
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error == f"error: QM9 needs the package qm9pack: {qm9.INSTALL}\n"
    assert not tiny.out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["compare", "qm9", "--out", "x" * 300],
        ["compare", "qm9", "--methods", "stl", f"db_mtl@beta=0.{'1' * 300}"],
        ["compare", "nyuv2", "--data-dir", "x" * 300],
        ["prepare", "nyuv2", "--source", "x" * 300],
        ["report", "x" * 300],
    ],
)
def test_a_name_that_is_too_long_is_one_line(tmp_path, monkeypatch, capsys, options):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *options])
    with pytest.raises(SystemExit) as exit_:
        command_line.main()
    assert exit_.value.code == 2
    assert re.fullmatch(r"error: .*\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["compare", "qm9"], "interrupted: the same command goes on from the last checkpoint\n"),
        (["report", "."], "interrupted\n"),
    ],
)
def test_an_interruption_is_one_line(monkeypatch, capsys, command, said):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "_run", interrupted)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *command])
    with pytest.raises(SystemExit) as exit_:
        command_line.main()
    assert exit_.value.code == 130
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("dataset", DATASETS)
def test_help_has_the_defaults_of_the_data_set(capsys, monkeypatch, dataset):
    monkeypatch.setenv("COLUMNS", "100")  # one column of options
    with pytest.raises(SystemExit):
        command_line.parse(["compare", dataset, "--help"])
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    data, train = DATASETS[dataset].setting("quick", "")
    for option, value in (
        ("--train.batch-size", train.batch_size),
        ("--train.schedule", train.schedule),
        ("--width", data.width),
        ("--out", f"runs/{dataset}"),
    ):
        text = said.partition(f"{option} ")[2]
        assert text.partition("(default: ")[2].startswith(str(value)), option


def test_the_preset_sets_the_defaults_and_options_override_them():
    command = ["compare", "qm9", "--preset", "paper", "--train.epochs", "7"]
    config = command_line.parse(command)
    assert config.data == DATASETS["qm9"].setting("paper", "")[0]
    assert config.train == dataclasses.replace(DATASETS["qm9"].setting("paper", "")[1], epochs=7)
    quick = command_line.parse(["compare", "qm9", "--preset=quick"])
    assert quick.data == DATASETS["qm9"].setting("quick", "")[0]
    assert command_line.parse(["compare", "qm9", "--methods", "stl", "ew"]).methods == ("stl", "ew")
    assert isinstance(command_line.parse(["perf", "--rounds", "2"]), Perf)
    # A folder with the name of a data set.
    named = command_line.parse(["compare", "qm9", "--out", "nyuv2"])
    assert (named.dataset, named.data) == ("qm9", quick.data)
    with pytest.raises(UserError, match=r"compare: expected a data set first.*found --out"):
        command_line.parse(["compare", "--out", "nyuv2", "qm9"])


def test_the_papers_preset_is_the_papers():
    problem, train = DATASETS["qm9"].setting("paper", "")
    assert (train.epochs, train.batch_size, train.learning_rate) == (300, 128, 1e-3)
    assert (train.plateau_factor, train.plateau_patience, train.min_learning_rate) == (0.7, 5, 1e-5)
    assert (problem.validation_size, problem.test_size, problem.train_size) == (
        10_000,
        10_000,
        None,
    )
    assert (problem.width, problem.edge_width, problem.message_steps) == (64, 128, 3)


def test_the_papers_tables_have_all_methods():
    for table in ("table1", "table2", "table3", "table4_office31", "table4_officehome", "table6"):
        rows = paper_table(table)
        assert rows.keys() == set(methods.PAPER.values()), table
        assert all(len(set(rows[m])) == len(rows["STL"]) for m in rows)
    assert list(paper_table("table3")["STL"])[1:12] == list(qm9.TASKS)


def test_many_methods_make_a_short_table_and_a_plot_of_speed(tiny):
    """Rendered from two trained runs and copies of one under the names of other methods."""
    names = ("stl", "ew", "uw", "mgda", "log+pcgrad", "pcgrad", "mtadam", "db_mtl")
    config = changed(dataclasses.replace(tiny, methods=names), epochs=1)
    train(dataclasses.replace(config, methods=names[:2]))
    trained = (config.out / "ew-seed0.jsonl").read_text()
    for name in names[2:]:
        (config.out / f"{name}-seed0.jsonl").write_text(trained)
    all_names = methods.spelt_out(["all"])
    for name in set(all_names) - set(names):
        (config.out / f"{name}-seed0.jsonl").write_text(trained)
    with without_drawing():
        everything = run(dataclasses.replace(config, methods=("all", "log+pcgrad")))
    assert "all runs are complete" in everything
    for name in all_names:
        assert methods.display_name(name) in everything
    for name in set(all_names) - set(names):
        (config.out / f"{name}-seed0.jsonl").unlink()
    slow = {name: {"milliseconds": 1000.0 * (i + 1)} for i, name in enumerate(names)}
    step_times.write(config.out, slow, rounds=1, steps_per_epoch=2)
    printed = run(config)
    for i, name in enumerate(names):
        assert methods.display_name(name) in printed
        assert f"{(i + 1) / 2:.2f} │" in printed  # over EW, the second
    assert "time / EW" in printed
    assert (config.out / "delta_p_and_time.png").stat().st_size > 5_000
    assert "| log + PCGrad |" in (config.out / "table.md").read_text()
    assert [outcome.method for outcome in study.load(config.out).outcomes] == list(names)


def test_steps_are_timed_in_turns():
    calls = []
    steps = {name: (lambda n=name: calls.append(n)) for name in ("ew", "db_mtl")}
    times = step_times.measure(steps, rounds=2)
    assert calls == ["ew", "ew", "db_mtl", "db_mtl"] * 3
    assert times["ew"]["over_ew"] == 1
    assert times["db_mtl"]["over_ew"] > 0


def test_a_comparison_can_time_its_steps(tiny):
    config = changed(dataclasses.replace(tiny, methods=("stl", "ew"), time_steps=1), epochs=1)
    with without_drawing():
        printed = run(config)
    assert "a batch is read in" in printed
    assert "while the device computes; the quickest step" in printed
    record = step_times.read(config.out)
    times = record.methods
    assert set(times) == {"stl", "ew"}
    assert record.reading > 0
    speeds = {o.method: o.steps_per_second for o in study.load(config.out).outcomes}
    assert speeds["ew"] == pytest.approx(1e3 / times["ew"]["milliseconds"])
