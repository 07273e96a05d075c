"""The four image sets from the rendered sample, prepared once."""

import io
import pathlib

import jax
import pytest
from rich.console import Console

pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

from benchmarks.config import MakeSample, Prepare
from benchmarks.data import commands, specs
from benchmarks.problems.dense.settings import DenseConfig
from benchmarks.problems.office.settings import OfficeConfig

FAST = {"xla_backend_optimization_level": 0}  # to compile, not to run
KEY = jax.random.key(3)
BATCH = 2


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> pathlib.Path:
    """All four sets, of the smallest images that every network takes."""
    root = tmp_path_factory.mktemp("vision")
    console = Console(file=io.StringIO(), width=500)
    for name in specs.NAMES:
        num_train, num_test = (3, 2)
        if name in specs.OFFICE:
            num_train, num_test = specs.OFFICE[name].num_classes - 2, 2
        side = 32 if name in specs.DENSE else 16
        commands.run(
            MakeSample(name, root / name, num_train, num_test, height=side, width=side), console
        )
        commands.run(Prepare(name, root / name, root / "prepared"), console)
    return root / "prepared"


def data_config(name: str, data_dir: pathlib.Path, network: str = "deeplab"):
    if name in specs.OFFICE:
        return OfficeConfig(data_dir=data_dir, width=2, blocks=(1, 1, 1, 1))
    blocks = 2 if network == "mtan" else 1
    return DenseConfig(
        data_dir=data_dir, network=network, validation_size=1, width=2, blocks=(blocks,) * 4
    )
