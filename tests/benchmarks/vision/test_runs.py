"""Comparisons on the four image sets, from the rendered sample to finished runs."""

import dataclasses
import functools
import io
import json
import math
import pathlib

import numpy as np
import pytest
from flax import nnx
from rich.console import Console

from benchmarks import __main__ as command_line
from benchmarks import compare, examples_file
from benchmarks.config import Compare
from benchmarks.data import specs
from benchmarks.errors import UserError
from benchmarks.methods import PAPER
from benchmarks.networks import deeplab, office
from benchmarks.networks.batch_norm import BatchNorm
from benchmarks.networks.layers import KAIMING_FAN_OUT, conv
from benchmarks.problems.datasets import DATASETS
from benchmarks.problems.dense import problem as dense
from benchmarks.run_log import read_run
from benchmarks.settings import TrainConfig
from benchmarks.training import runs
from benchmarks.training.programs import Programs
from tests.benchmarks.vision.conftest import BATCH, FAST, data_config

METHODS = {
    # The program of EW is that of the kind of problem, dense or Office: once each is enough.
    "nyuv2": ("stl", "db_mtl"),
    "cityscapes": ("stl", "ew", "db_mtl"),
    "office31": ("stl", "ew", "db_mtl"),
    "officehome": ("stl", "db_mtl"),
}


def comparison(name: str, data_dir: pathlib.Path, out: pathlib.Path) -> Compare:
    train = TrainConfig(
        epochs=1,
        # One step: as many as the smallest training set has.
        batch_size=BATCH
        if name in specs.DENSE
        else math.floor(0.6 * specs.OFFICE[name].num_classes),
        learning_rate=1e-3,
        weight_decay=1e-5,
        schedule="constant",
        log_every=1,
    )
    data = data_config(name, data_dir)
    return Compare(dataset=name, data=data, train=train, methods=METHODS[name], out=out)


def run(config: Compare, monkeypatch) -> str:
    monkeypatch.setattr(runs, "Programs", functools.partial(Programs, compiler_options=FAST))
    output = io.StringIO()
    compare.run_missing(config, Console(file=output, width=500))
    return output.getvalue()


class SmallEncoder(nnx.Module):
    """One layer in the place of a ResNet, whose programs take several times as long to compile."""

    def __init__(self, block, blocks, *, width, output_stride=32, rngs):
        self.conv = conv(3, width, 3, stride=4, init=KAIMING_FAN_OUT, rngs=rngs)
        self.norm = BatchNorm(width)
        self.out_features = width

    def __call__(self, images):
        return nnx.relu(self.norm(self.conv(images)))


@pytest.fixture
def small_encoder(monkeypatch):
    """The ResNets have their task gradients in the other files, and slow tests train them."""
    for module in (deeplab, office):
        monkeypatch.setattr(module, "ResNet", SmallEncoder)
    monkeypatch.setattr(deeplab, "RATES", (2,))


@pytest.mark.usefixtures("small_encoder")
@pytest.mark.parametrize(
    "name",
    [
        # The other two have the same networks.
        pytest.param(n, marks=() if n in ("nyuv2", "officehome") else pytest.mark.slow)
        for n in specs.NAMES
    ],
)
def test_from_sample_to_finished_runs(name, prepared, tmp_path, monkeypatch):
    config = comparison(name, prepared, tmp_path / "out")
    printed = run(config, monkeypatch)
    assert "sample data, not the real data set" in printed
    assert "ResNet from scratch" in printed
    tasks = {"nyuv2": 3, "cityscapes": 2, "office31": 3, "officehome": 4}[name]
    for method in METHODS[name]:
        records = read_run(config.out / f"{method}-seed0.jsonl")
        assert [record["kind"] for record in records] == ["start", "step", "epoch", "result"]
        start, step, epoch, result = records
        assert start["dataset"] == name
        assert start["network"] == config.data.network
        assert start["sample_data"] is True
        assert len(start["tasks"]) == len(step["losses"]) == tasks
        lengths = [len(own) for own in start["metrics"]]
        assert [len(own) for own in start["higher_is_better"]] == lengths
        for split in ("validation", "test"):
            assert [len(own) for own in result[split]] == lengths
        assert np.isfinite(step["losses"]).all()
        assert len(epoch["learning_rate"]) == (tasks if method == "stl" else 1)
        seen = examples_file.read(examples_file.path(config.out, method, 0))
        assert list(seen.targets) == list(seen.predictions) == start["tasks"]
        for task, target in seen.targets.items():
            assert seen.predictions[task].shape == target.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", specs.NAMES)
def test_every_method_runs_on_every_set(name, prepared, tmp_path, monkeypatch):
    config = comparison(name, prepared, tmp_path / "out")
    config = dataclasses.replace(config, methods=("all", "log+pcgrad"))
    run(config, monkeypatch)
    ends = {path.name: read_run(path)[-1] for path in sorted(config.out.glob("*.jsonl"))}
    assert len(ends) == 1 + len(PAPER)
    assert {name for name, end in ends.items() if end["kind"] != "result"} == set()


@pytest.mark.usefixtures("small_encoder")
def test_without_validation_the_last_epochs_count(prepared, tmp_path, monkeypatch):
    config = comparison("cityscapes", prepared, tmp_path / "out")
    config = dataclasses.replace(
        config,
        methods=("stl", "ew"),
        data=dataclasses.replace(config.data, validation_size=0),
        train=dataclasses.replace(config.train, epochs=2, schedule="halve"),
    )
    run(config, monkeypatch)
    for method, models in (("stl", 2), ("ew", 1)):
        records = read_run(config.out / f"{method}-seed0.jsonl")
        assert records[-1]["best_epoch"] == [1] * models
        assert records[-1]["tested_epochs"] == 2
        assert records[-1]["validation"] == [[None, None], [None, None]]
        rates = [r["learning_rate"] for r in records if r["kind"] == "epoch"]
        np.testing.assert_allclose(rates, np.full((2, models), [[1e-3], [5e-4]]), rtol=1e-6)
    with pytest.raises(UserError, match="nothing is held out"):
        run(
            dataclasses.replace(
                config,
                out=tmp_path / "plateau",
                train=dataclasses.replace(config.train, schedule="plateau"),
            ),
            monkeypatch,
        )


def test_presets_of_the_paper():
    def paper(*command):
        return command_line.parse(["compare", *command, "--preset", "paper"])

    nyuv2 = paper("nyuv2")
    train = nyuv2.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (200, 8, 1e-4)
    assert (train.weight_decay, train.schedule) == (1e-5, "halve")
    assert (nyuv2.data.network, nyuv2.data.augment, nyuv2.data.width) == ("deeplab", False, 64)
    table6 = paper("nyuv2", "--network", "segnet_mtan")
    assert (table6.train.batch_size, table6.data.augment) == (2, True)
    assert table6.data.network == "segnet_mtan"
    assert paper("cityscapes").train.batch_size == 64
    office = paper("officehome").train
    assert (office.epochs, office.batch_size, office.schedule) == (100, 64, "constant")
    quick = command_line.parse(["compare", "nyuv2", "--network=mtan", "--data-dir", "x"])
    assert quick.data.blocks == (2, 2, 2, 2)
    assert quick.data.data_dir == pathlib.Path("x")
    assert quick.out == pathlib.Path("runs/nyuv2-mtan")
    for dataset in DATASETS.values():
        json.dumps(Compare.preset_of(dataset, "paper").settings())


def test_what_a_user_can_mend_is_one_line(prepared, tmp_path, monkeypatch):
    def refused(name, match, **data):
        config = comparison(name, prepared, tmp_path / str(len(list(tmp_path.iterdir()))))
        changed = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
        with pytest.raises(UserError, match=match) as error:
            run(changed, monkeypatch)
        assert "\n" not in str(error.value)

    refused("nyuv2", "no prepared nyuv2 in", data_dir=tmp_path)
    refused("office31", "no prepared office31 in", data_dir=tmp_path)
    refused("nyuv2", "cannot read .*No such file", weights=tmp_path / "none.npz")
    refused("nyuv2", "has no ResNet", network="segnet", weights=tmp_path / "none.npz")
    monkeypatch.setitem(dense._SIDES, "mtan", 20)
    refused("nyuv2", "multiples of 20, and these are 32×32", network="mtan")
