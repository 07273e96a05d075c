"""What a ResNet begins with: it is asked for, found, recorded, and said under every exhibit."""

import dataclasses
import hashlib
import json

import pytest

from benchmarks import initial_weights, reproduce
from benchmarks.config import Compare, Reproduce
from benchmarks.data import specs
from benchmarks.errors import UserError
from benchmarks.problems.datasets import DATASETS
from benchmarks.report import rendered
from benchmarks.report.paper import exhibits
from benchmarks.report.records import study
from tests.benchmarks.runs import write_folder, write_settings

CONTENT = b"not read here"
RECORD = {"file": "resnet50.npz", "sha256": hashlib.sha256(CONTENT).hexdigest()}


@pytest.fixture
def folder(tmp_path):
    """A folder of weights."""
    made = tmp_path / "weights"
    made.mkdir()
    for name in ("resnet50.npz", "resnet18.safetensors"):
        (made / name).write_bytes(CONTENT)
    return made


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("deeplab", "resnet50.npz"),
        ("mtan", "resnet50.npz"),
        ("resnet18", "resnet18.safetensors"),
        ("segnet_mtan", None),
    ],
)
def test_each_network_has_its_own_file(network, name, folder):
    found = initial_weights.in_folder(folder, network)
    assert found == (None if name is None else folder / name)


def test_a_file_that_is_not_clear_is_refused(folder):
    (folder / "resnet18.npz").write_bytes(CONTENT)
    with pytest.raises(UserError, match=r"expected a folder with one of resnet18.*found both"):
        initial_weights.in_folder(folder, "resnet18")
    with pytest.raises(UserError, match="for deeplab, found neither in"):
        initial_weights.in_folder(folder / "none", "deeplab")


def comparison(preset="paper", dataset="nyuv2", network="deeplab", **data):
    made = Compare.preset_of(DATASETS[dataset], preset, network)
    changed = dataclasses.replace(made.data, **data)
    return dataclasses.replace(made, data=changed)


def test_the_papers_preset_needs_weights(folder):
    with pytest.raises(UserError, match=r"expected ImageNet weights of the resnet50.*found none"):
        initial_weights.check(comparison())
    with pytest.raises(UserError, match="expected ImageNet weights of the resnet18"):
        initial_weights.check(comparison(dataset="office31"))
    both = comparison(weights=folder / "resnet50.npz", from_scratch=True)
    with pytest.raises(UserError, match="--from-scratch: expected no --weights with it"):
        initial_weights.check(both)
    for fine in (
        comparison(weights=folder / "resnet50.npz"),
        comparison(from_scratch=True),
        comparison(network="segnet_mtan"),
        comparison(preset="quick"),
        comparison(dataset="qm9", network=""),
    ):
        initial_weights.check(fine)


def test_the_record_has_the_name_and_the_checksum(folder):
    assert initial_weights.provenance("deeplab", folder / "resnet50.npz") == RECORD
    assert initial_weights.provenance("deeplab", None) == "from scratch"
    assert initial_weights.provenance("segnet", None) is None
    with pytest.raises(UserError, match=r"--weights: cannot read .*none\.npz"):
        initial_weights.provenance("deeplab", folder / "none.npz")


SCRATCH = "ResNet from scratch"


@pytest.mark.parametrize(
    ("recorded", "weights", "expected"),
    [
        ({"initial_weights": RECORD}, "x/resnet50.npz", RECORD["sha256"][:12]),
        ({"initial_weights": "from scratch"}, None, SCRATCH),
        ({}, None, SCRATCH),  # a folder of before the record
        ({}, "x/resnet50.npz", "pretrained weights resnet50.npz (checksum not recorded)"),
    ],
)
def test_every_exhibit_says_it(recorded, weights, expected, tmp_path):
    write_folder(tmp_path, "nyuv2", network="deeplab", **recorded)
    write_settings(tmp_path, "nyuv2", "deeplab")
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["data"]["weights"] = weights
    (tmp_path / "config.json").write_text(json.dumps(settings))
    loaded = {"nyuv2-deeplab": study.load(tmp_path)}
    assert expected in rendered.markdown(exhibits.make("table1", loaded))
    figure = exhibits.make("figure9", loaded).figures["figure9"]
    footnote = " ".join(figure.get_supxlabel().split())
    assert expected in footnote


def test_networks_without_a_resnet_say_nothing(tmp_path):
    write_folder(tmp_path, "nyuv2", network="segnet_mtan", initial_weights=None)
    write_settings(tmp_path, "nyuv2", "segnet_mtan")
    assert "scratch" not in study.load(tmp_path).provenance


def test_reproduce_gives_every_network_its_own(folder, tmp_path):
    names = ("table1", "table4", "table6")
    for dataset in ("nyuv2", "office31", "officehome"):
        (tmp_path / dataset / specs.VERSION).mkdir(parents=True)
    config = Reproduce(names, "paper", data_dir=tmp_path, weights=folder, out=tmp_path / "out")
    found = {
        part.study.key: reproduce.comparison(part.study, config).data.weights
        for parts in reproduce.plan(config).values()
        for part in parts
    }
    assert found == {
        "nyuv2-deeplab": folder / "resnet50.npz",
        "office31": folder / "resnet18.safetensors",
        "officehome": folder / "resnet18.safetensors",
        "nyuv2-segnet_mtan": None,
    }
    with pytest.raises(UserError, match="expected ImageNet weights of the resnet50"):
        reproduce.reproduce(dataclasses.replace(config, weights=None), None)
    assert not config.out.exists(), "refused before anything is trained"
