"""Comparisons on Multi-Fashion, from files to a report."""

import dataclasses
import functools
import io
import pathlib

import pytest
from rich.console import Console

from benchmarks import __main__ as command_line
from benchmarks import compare, examples_file
from benchmarks.config import Compare
from benchmarks.errors import UserError
from benchmarks.problems.multi_fashion import data
from benchmarks.report import command as report
from benchmarks.run_log import read_run
from benchmarks.settings import TrainConfig
from benchmarks.training import runs
from benchmarks.training.programs import Programs
from tests.benchmarks.multi_fashion.garments import FASHION, TINY, write

FAST = {"xla_backend_optimization_level": 0}  # to compile, not to run
TRAIN = TrainConfig(epochs=2, batch_size=8, learning_rate=1e-2, schedule="halve", log_every=1)


def test_from_files_to_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHECKSUM", data.checksum(FASHION))
    monkeypatch.setattr(runs, "Programs", functools.partial(Programs, compiler_options=FAST))
    config = Compare(
        "multi_fashion",
        dataclasses.replace(TINY, data_dir=write(tmp_path / "files")),
        TRAIN,
        # Stacked, pending, of the representation, and of the last shared layer.
        methods=("stl", "ew", "db_mtl", "mgda@wrt=representation", "mgda@measured=last"),
        out=tmp_path / "out",
    )
    console = Console(file=io.StringIO(), width=500)
    compare.run_missing(config, console)
    for method in config.methods:
        records = read_run(config.out / f"{method}-seed0.jsonl")
        assert records[-1]["kind"] == "result", method
        assert records[0]["tasks"] == ["top_left", "bottom_right"]
        assert records[0]["sample_data"] is False
    seen = examples_file.read(examples_file.path(config.out, "ew", 0))
    assert list(seen.targets) == ["top_left", "bottom_right"]
    assert seen.class_names == data.CLASSES
    report.report(config.out, console)
    table = (config.out / "table.md").read_text(encoding="utf-8")
    assert "50 training images" in table
    assert "Top left" in table
    assert "Bottom right" in table
    assert (config.out / "examples-ew.png").is_file()


def test_without_validation_the_last_epochs_count(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHECKSUM", data.checksum(FASHION))
    monkeypatch.setattr(runs, "Programs", functools.partial(Programs, compiler_options=FAST))
    config = Compare(
        "multi_fashion",
        dataclasses.replace(TINY, validation_size=0, data_dir=write(tmp_path / "files")),
        TRAIN,
        methods=("stl",),
        out=tmp_path / "out",
    )
    compare.run_missing(config, Console(file=io.StringIO()))
    end = read_run(config.out / "stl-seed0.jsonl")[-1]
    assert end["tested_epochs"] == TRAIN.epochs
    assert end["best_epoch"] == [TRAIN.epochs - 1] * 2


def test_presets():
    def parsed(*command):
        return command_line.parse(["compare", "multi_fashion", *command])

    paper = parsed("--preset", "paper")
    sizes = (paper.data.train_size, paper.data.validation_size, paper.data.test_size)
    assert sizes == (120_000, 12_000, 20_000)
    assert (paper.data.network, paper.data.width) == ("lenet", 10)
    assert (paper.train.epochs, paper.train.batch_size, paper.train.learning_rate) == (
        100, 256, 1e-3,
    )  # fmt: skip
    resnet = parsed("--preset", "paper", "--network", "resnet18")
    assert (resnet.data.width, resnet.data.blocks, resnet.train.epochs) == (64, (2, 2, 2, 2), 20)
    quick = parsed("--network", "resnet18", "--data-dir", "x")
    assert (quick.data.width, quick.data.blocks) == (16, (1, 1, 1, 1))
    assert quick.out == pathlib.Path("runs/multi_fashion-resnet18")
    with pytest.raises(UserError, match="multi_fashion has the presets quick and paper alone"):
        parsed("--preset", "small")
