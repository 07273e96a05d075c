"""The options of Multi-Fashion."""

import dataclasses
import pathlib
from typing import Literal

from benchmarks.settings import DataConfig

Network = Literal["lenet", "resnet18"]

DEBIAN_FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package `dataset-fashion-mnist` has its files."""


@dataclasses.dataclass(frozen=True)
class MultiFashionConfig(DataConfig):
    """Multi-Fashion: two garments in one image. The defaults are the published sizes."""

    network: Network = "lenet"
    """architecture of the network"""
    data_dir: pathlib.Path = DEBIAN_FOLDER
    """folder of Fashion-MNIST's four IDX files, gzipped or not; the default is that of the Debian
    package dataset-fashion-mnist"""
    train_size: int = 120_000
    """number of training images"""
    validation_size: int = 12_000
    """number of validation images, which are made of a tenth of the training garments that is held
    out; 0: none, all garments train, and the last epochs count (--train.last-epochs)"""
    test_size: int = 20_000
    """number of test images"""
    split_seed: int = 0
    """random seed of the garments held out, of the pairs and of their places"""
    width: int = 10
    """number of channels of the first layer; all other layers scale with it"""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """number of blocks in each of the four layers of the ResNet"""

    def holds_out(self) -> bool:
        """Whether there are validation images."""
        return self.validation_size != 0
