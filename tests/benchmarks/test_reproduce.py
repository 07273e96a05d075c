"""The paper's tables and figures from one command: what it plans, runs, and leaves alone."""

import dataclasses
import io
import json
import pathlib

import numpy as np
import pytest
from rich.console import Console

from benchmarks import __main__ as command_line
from benchmarks import compare, reproduce, step_times
from benchmarks.config import Reproduce
from benchmarks.data import specs
from benchmarks.errors import UserError
from benchmarks.methods import check
from benchmarks.problems import qm9
from benchmarks.problems.dataset import Sample
from benchmarks.problems.datasets import DATASETS
from benchmarks.report.paper.catalogue import CATALOGUE, EXHIBITS
from benchmarks.report.records.choice import BETA_GRID
from tests.benchmarks.conftest import QM9, TRAIN, make_molecules
from tests.benchmarks.runs import SETS, deltas, metrics, write_run


def run(config: Reproduce) -> str:
    output = io.StringIO()
    reproduce.reproduce(config, Console(file=output, width=200, markup=False))
    return output.getvalue()


@pytest.fixture
def fabricated(monkeypatch):
    """Runs are written instead of trained; which ones is noted."""
    asked = []

    def run_missing(config, console):
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "config.json").write_text(json.dumps(config.settings()))
        sample = "samples" in str(getattr(config.data, "data_dir", ""))
        start = {"dataset": config.dataset, "sample_data": sample} | SETS[config.dataset]
        for k, method in enumerate(config.methods):
            for seed in range(config.seeds):
                asked.append((config.out.name, method, seed))
                values = metrics(config.dataset, [k, seed])
                write_run(config.out, method, seed, start, values, cosines=method != "stl")

    def time_steps(config, rounds, console):
        config.out.mkdir(parents=True, exist_ok=True)
        times = {m: {"milliseconds": 5.0 + k} for k, m in enumerate(config.methods)}
        step_times.write(config.out, times, rounds, steps_per_epoch=10)

    monkeypatch.setattr(compare, "run_missing", run_missing)
    monkeypatch.setattr(compare, "time_steps", time_steps)
    monkeypatch.setattr(reproduce, "_make_sample", lambda *_: None)
    return asked


def offline(tmp_path, *names, **changes):
    config = Reproduce(names=names, seeds=2, data_dir=tmp_path / "none", out=tmp_path / "out")
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize("name", EXHIBITS)
def test_every_exhibit_is_made_from_what_its_plan_runs(name, fabricated, tmp_path):
    config = offline(tmp_path, name)
    printed = run(config)
    assert EXHIBITS[name].title in printed
    suffixes = {path.suffix for path in config.out.glob(f"{name}*")}
    expected = {".png", ".svg"} if name.startswith("figure") else {".md", ".tex"}
    assert expected <= suffixes
    planned = {
        (part.study.key, method, seed)
        for part in reproduce.plan(config)[name]
        if not part.timed
        for method in part.methods
        for seed in range(2)
    }
    assert set(fabricated) == planned
    text = "".join(path.read_text() for path in config.out.glob(f"{name}*.svg"))
    text += "".join(path.read_text() for path in config.out.glob(f"{name}*.md"))
    of_qm9 = all(part.study.dataset == "qm9" for part in reproduce.plan(config)[name])
    assert ("real data" if of_qm9 else "sample data") in text


def test_the_tables_figures_are_those_of_the_files(fabricated, tmp_path):
    config = offline(tmp_path, "table1")
    run(config)

    def test_of(method, seed):
        path = config.out / "nyuv2-deeplab" / f"{method}-seed{seed}.jsonl"
        return json.loads(path.read_text().splitlines()[-1])["test"]

    for method, name in (("uw", "UW"), ("aligned_mtl", "Aligned-MTL")):
        tests, baselines = ([test_of(m, s) for s in (0, 1)] for m in (method, "stl"))
        found = deltas("nyuv2", tests, baselines)
        text = f"{np.mean(found):.2f} ± {np.std(found, ddof=1):.2f}"
        (row,) = [
            line
            for line in (config.out / "table1.md").read_text().splitlines()
            if line.startswith(f"| {name} |")
        ]
        assert text in row


def test_the_catalogue_names_methods_and_studies_that_exist():
    for exhibit in EXHIBITS.values():
        for method in (*exhibit.methods, *BETA_GRID):
            check(method)
        for study in exhibit.studies + exhibit.offline:
            data, _ = DATASETS[study.dataset].setting("paper", study.network)
            assert data.network in (study.network, "resnet18")
    numbers = [f"table{i}" for i in range(1, 7)] + [f"figure{i}" for i in range(1, 11)]
    assert list(CATALOGUE) == numbers


def test_which_data_an_exhibit_is_of(tmp_path):
    def studies(name, **changes):
        config = offline(tmp_path, name, **changes)
        return [part.study.key for part in reproduce.plan(config)[name]]

    assert studies("figure1") == ["qm9"]
    assert studies("table1") == ["nyuv2-deeplab"]
    assert studies("table5")[-1] == "qm9"
    assert studies("table5", preset="small") == ["qm9"]
    (tmp_path / "none" / "nyuv2" / specs.VERSION).mkdir(parents=True)
    assert studies("figure1") == ["nyuv2-deeplab"]
    assert studies("figure1", preset="paper") == ["nyuv2-deeplab"]
    assert studies("figure1", preset="small") == ["qm9"]
    assert studies("figure2") == ["qm9"]  # three of its four are missing


def test_the_forgetting_rate_is_searched_where_the_paper_does(tmp_path):
    def methods(name, **changes):
        config = offline(tmp_path, name, **changes)
        return reproduce.plan(config)[name][0].methods

    assert set(BETA_GRID) <= set(methods("table3", preset="paper"))
    assert set(BETA_GRID) <= set(methods("table3", search_beta=True))
    assert not set(BETA_GRID) & set(methods("table3"))
    assert not set(BETA_GRID) & set(methods("figure8", search_beta=True))
    assert set(BETA_GRID) <= set(methods("table1", search_beta=True))
    (tmp_path / "none" / "nyuv2" / specs.VERSION).mkdir(parents=True)
    assert not set(BETA_GRID) & set(methods("table1", preset="paper")), "nothing to choose by"
    assert set(BETA_GRID) <= set(methods("table1", preset="paper", hold_out=True))


def test_what_a_user_can_mend_is_one_line(tmp_path):
    for match, config in (
        ("unknown 'table9': expected all or some of table1", offline(tmp_path, "table9")),
        ("--seeds: expected at least 1, found 0", offline(tmp_path, "table3", seeds=0)),
        ("--rounds: expected at least 1, found 0", offline(tmp_path, "figure7", rounds=0)),
        ("--measure: expected at least 0, found -1", offline(tmp_path, "figure7", measure=-1)),
        ("table1 needs nyuv2, which is not prepared", offline(tmp_path, "table1", preset="paper")),
        ("table1: the preset small has QM9 alone", offline(tmp_path, "table1", preset="small")),
        ("name one or more of all, table1", offline(tmp_path)),
    ):
        with pytest.raises(UserError, match=match) as error:
            run(config)
        assert "\n" not in str(error.value)


def test_all_leaves_out_what_a_preset_has_not(tmp_path):
    names = reproduce.plan(offline(tmp_path, "all", preset="small"))
    assert "table3" in names
    assert "table1" not in names
    assert list(reproduce.plan(offline(tmp_path, "all"))) == list(CATALOGUE)


def test_the_listing_tells_what_is_done_and_what_the_rest_costs(tmp_path):
    config = offline(tmp_path, "figure8", list=True)
    assert "0/6" in run(config)
    assert "?" in run(config)
    folder = config.out / "qm9"
    folder.mkdir(parents=True)
    start = {"dataset": "qm9"} | SETS["qm9"]
    for method, seconds in (("stl", 600), ("db_mtl", 240)):
        write_run(folder, method, 0, start, metrics("qm9", 0))
        path = folder / f"{method}-seed0.jsonl"
        *lines, last = path.read_text().splitlines()
        lines.append(json.dumps(json.loads(last) | {"seconds": seconds}))
        path.write_text("\n".join(lines) + "\n")
    (folder / "ew-seed1.jsonl").write_text("nonsense\n")  # which is not done, then
    # Left are a run of each of these two, and two of EW: as long as a method's that has run.
    printed = run(config)
    assert "2/6" in printed
    assert f"{(600 + 240 + 2 * 240) / 60:.0f} min" in printed
    # Timed steps tell what EW costs: 10 epochs of 30 steps of 100 ms.
    times = {m: {"milliseconds": 100.0} for m in ("stl", "ew", "db_mtl")}
    step_times.write(folder, times, 3, steps_per_epoch=30)
    assert f"{(600 + 240 + 2 * 30) / 60:.0f} min" in run(config)
    assert not list(config.out.glob("figure8*"))


def test_runs_are_trained_once_and_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(qm9, "load", lambda *_: make_molecules())
    tiny = dataclasses.replace(DATASETS["qm9"], setting=lambda *_: (QM9, TRAIN))
    monkeypatch.setattr(reproduce.datasets, "find", (DATASETS | {"qm9": tiny}).__getitem__)
    config = offline(tmp_path, "figure8", seeds=1)
    run(config)
    folder = config.out / "qm9"
    runs = {path: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}
    assert {path.stem for path in runs} == {"stl-seed0", "ew-seed0", "db_mtl-seed0"}
    printed = run(dataclasses.replace(config, names=("figure9", "figure10")))
    assert "all runs are complete" in printed
    assert runs == {path: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}
    for name in ("figure8", "figure9", "figure10"):
        assert (config.out / f"{name}.png").stat().st_size > 5_000


def test_a_sample_is_rendered_once_where_there_are_no_data(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    small = dataclasses.replace(DATASETS["cityscapes"], sample=Sample(3, 2, 32, 32))
    monkeypatch.setattr(reproduce.datasets, "find", (DATASETS | {"cityscapes": small}).__getitem__)
    config = offline(tmp_path, "table2")
    (part,) = reproduce.plan(config)["table2"]
    console = Console(file=io.StringIO())
    reproduce._make_sample(part.study, config, console)
    prepared = config.out / "samples" / "cityscapes" / specs.VERSION
    before = {path: path.stat().st_mtime_ns for path in prepared.iterdir()}
    assert before
    reproduce._make_sample(part.study, config, console)
    assert before == {path: path.stat().st_mtime_ns for path in prepared.iterdir()}
    command = reproduce.comparison(part.study, config)
    assert command.data.data_dir == config.out / "samples"
    assert command.out == config.out / "cityscapes-deeplab"


def test_the_command_line():
    config = command_line.parse(["reproduce", "table3", "figure1", "--preset", "small", "--list"])
    assert isinstance(config, Reproduce)
    assert config.names == ("table3", "figure1")
    assert (config.preset, config.list, config.seeds) == ("small", True, 3)
    assert config.out == pathlib.Path("runs/reproduce")
