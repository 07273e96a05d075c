"""Tiny samples in the real formats, made and prepared once."""

import io
import pathlib

import pytest
from rich.console import Console

pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

from benchmarks.config import MakeSample, Prepare
from benchmarks.data import commands

SIZE = (24, 32)
TRAIN, TEST = 6, 3
OFFICE_IMAGES = 40


def run(config) -> str:
    """What a command prints."""
    console = Console(file=io.StringIO(), width=500)
    commands.run(config, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Folder of samples: nyuv2/, cityscapes/ and office31/."""
    root = tmp_path_factory.mktemp("sample")
    for name in ("nyuv2", "cityscapes", "office31"):
        train = OFFICE_IMAGES - TEST if name == "office31" else TRAIN
        height, width = (16, 16) if name == "office31" else SIZE
        run(MakeSample(name, root / name, train, TEST, height=height, width=width))  # type: ignore[arg-type]
    return root


@pytest.fixture(scope="session")
def prepared(sample: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same, prepared."""
    out = tmp_path_factory.mktemp("prepared")
    for name in ("nyuv2", "cityscapes", "office31"):
        run(Prepare(name, sample / name, out))  # type: ignore[arg-type]
    return out
