"""The options that all sets of images have."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from benchmarks.data.specs import INSTALL
from benchmarks.errors import UserError
from benchmarks.settings import DataConfig, TrainConfig

if TYPE_CHECKING:
    from benchmarks.problems.problem import Problem


@dataclasses.dataclass(frozen=True)
class ImageConfig(DataConfig):
    """Where prepared images are, and what the ResNet of a network begins with."""

    network: str = ""
    """architecture of the network"""

    data_dir: pathlib.Path = pathlib.Path("data")
    """folder of the prepared data sets, the `--out` of the command `prepare`"""
    weights: pathlib.Path | None = None
    """file with ImageNet weights of the ResNet, .safetensors or .npz, named as in torchvision;
    None: random initial weights, which --preset paper refuses without --from-scratch"""
    from_scratch: bool = False
    """begin from random initial weights, also with --preset paper"""


Config = TypeVar("Config", bound=DataConfig)

PAPER_TRAIN = TrainConfig(
    epochs=200, batch_size=8, learning_rate=1e-4, weight_decay=1e-5, schedule="halve", log_every=10
)
"""Training on NYUv2 in the paper; the others differ in a few options."""
QUICK_TRAIN = dataclasses.replace(
    PAPER_TRAIN, epochs=10, batch_size=8, learning_rate=1e-3, log_every=1
)
"""Training with the preset quick."""


def opened(
    name: str, make: Callable[[Config, TrainConfig], "Problem"]
) -> Callable[[Config, TrainConfig], "Problem"]:
    """A function that checks the options and opens a set of images with `make`.

    It raises UserError if packages are missing, and for options that image networks do not have.
    """

    def open_(data: Config, train: TrainConfig) -> "Problem":
        if train.compute_dtype != "float32":
            raise UserError(
                f"--train.compute-dtype: expected float32 for {name}, as only QM9's network has "
                f"been compared with it, found {train.compute_dtype}"
            )
        try:
            return make(data, train)
        except ModuleNotFoundError as error:
            raise UserError(
                f"image data need the package {error.name}, which is not installed: {INSTALL}"
            ) from error

    return open_
