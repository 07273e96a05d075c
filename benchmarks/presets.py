"""The presets of every data set: the settings of the paper, and shorter ones for a laptop."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, get_args

from benchmarks.data.vision.specs import DENSE, OFFICE
from benchmarks.errors import UserError
from benchmarks.settings import (
    DataConfig,
    DenseConfig,
    DenseNetwork,
    OfficeConfig,
    QM9Config,
    TrainConfig,
)

if TYPE_CHECKING:
    from benchmarks.config import Compare

_DENSE_TRAIN = TrainConfig(
    epochs=200, batch_size=8, learning_rate=1e-4, weight_decay=1e-5, schedule="halve", log_every=10
)
_OFFICE = (
    OfficeConfig(),
    dataclasses.replace(_DENSE_TRAIN, epochs=100, batch_size=64, schedule="constant"),
)
_PAPER: dict[str, tuple[DataConfig, TrainConfig]] = {
    "qm9": (QM9Config(), TrainConfig()),
    "nyuv2": (DenseConfig(), _DENSE_TRAIN),
    "cityscapes": (DenseConfig(), dataclasses.replace(_DENSE_TRAIN, batch_size=64)),
    "office31": _OFFICE,
    "officehome": _OFFICE,
}
_QUICK_QM9 = (
    QM9Config(
        train_size=1_280,
        validation_size=500,
        test_size=1_000,
        chunks=1,  # narrow networks are as fast so, and compile in half the time of two
        width=32,
        edge_width=32,
    ),
    TrainConfig(epochs=10, batch_size=32, log_every=1),
)
_SMALL_QM9 = (
    dataclasses.replace(_QUICK_QM9[0], width=24, edge_width=24),
    TrainConfig(epochs=30, batch_size=16, log_every=80),
)


def preset(name: str, dataset: str, network: str = "") -> tuple[DataConfig, TrainConfig]:
    """The settings of a preset.

    Args:
      name: "quick" (minutes), "small" (QM9 only, an hour or two for all methods) or "paper".
      dataset: name of the data set.
      network: network of NYUv2 or Cityscapes; unknown names are ignored here, as the command line
        rejects them later.

    Raises:
      UserError: for "small" with another data set than QM9.
    """
    if dataset == "qm9" and name != "paper":
        return _QUICK_QM9 if name == "quick" else _SMALL_QM9
    if name == "small":
        raise UserError(f"--preset small: this preset is for QM9 only, not for {dataset}")
    data, train = _PAPER[dataset]
    if isinstance(data, DenseConfig) and network in get_args(DenseNetwork):
        data = dataclasses.replace(data, network=network)  # type: ignore[arg-type]
        if dataset == "nyuv2" and network.startswith("segnet"):  # Table 6
            data = dataclasses.replace(data, augment=True)
            train = dataclasses.replace(train, batch_size=2)
    if name == "quick":
        data = _narrow(data)
        train = dataclasses.replace(train, epochs=10, batch_size=8, learning_rate=1e-3, log_every=1)
    return data, train


def comparison(name: str, dataset: str, network: str = "") -> "Compare":
    """The command `compare` with all defaults of a preset."""
    from benchmarks.config import Compare  # late, as training needs no command line

    data, train = preset(name, dataset, network)
    folder = f"{dataset}-{data.network}" if isinstance(data, DenseConfig) else dataset
    settings: Any = {"dataset": dataset, "out": pathlib.Path("runs") / folder}
    return Compare(data=data, train=train, **settings)


DATASETS = ("qm9", *DENSE, *OFFICE)


def _narrow(data: DataConfig) -> DataConfig:
    """Replaces the network by a narrow one, and holds out a validation set."""
    if isinstance(data, DenseConfig):
        blocks = 2 if data.network == "mtan" else 1  # MTAN needs two
        # Of ten epochs the mean would say little: validation chooses one.
        return dataclasses.replace(data, width=8, blocks=(blocks,) * 4, validation_size=None)
    if isinstance(data, OfficeConfig):
        return dataclasses.replace(data, width=16, blocks=(1, 1, 1, 1))
    return data
