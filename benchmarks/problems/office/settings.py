"""The options of Office-31 and Office-Home."""

import dataclasses
import pathlib
from typing import Literal

from benchmarks.problems.image_settings import ImageConfig


@dataclasses.dataclass(frozen=True)
class OfficeConfig(ImageConfig):
    """Office-31 or Office-Home with a ResNet-18. The defaults are the paper's."""

    network: Literal["resnet18"] = "resnet18"
    """architecture of the network"""
    lists: pathlib.Path | None = None
    """folder of the files {domain}_{train,val,test}.txt, which list the images of each split; None:
    a random split of 60/20/20 percent"""
    split_seed: int = 0
    """random seed of the 60/20/20 split"""
    width: int = 64
    """number of channels of the first layer; all other layers scale with it"""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """number of blocks in each of the four layers of the ResNet"""
