"""The options of NYUv2 and Cityscapes."""

import dataclasses
from typing import Literal, Self

from benchmarks.problems.image_settings import ImageConfig

DenseNetwork = Literal["deeplab", "segnet", "segnet_mtan", "mtan", "cross_stitch"]

RESNETS = {"deeplab": "resnet50", "mtan": "resnet50", "cross_stitch": "resnet50"}
"""The ResNet in each network that has one."""

SHARED_REPRESENTATION = frozenset({"deeplab", "segnet"})
"""The networks whose heads use only the output of the encoder, which is the same for all."""


@dataclasses.dataclass(frozen=True)
class DenseConfig(ImageConfig):
    """NYUv2 or Cityscapes with a network for dense prediction. The defaults are the paper's."""

    network: DenseNetwork = "deeplab"
    """architecture of the network"""
    augment: bool = False
    """crop and flip the training images at random"""
    validation_size: int | None = 0
    """number of training images held out for validation, which chooses the epoch that is tested;
    None: a tenth; 0: none, all images train, and the last epochs count (--train.last-epochs)"""
    split_seed: int = 0
    """random seed that chooses the validation images"""
    width: int = 64
    """number of channels of the first layer; all other layers scale with it"""
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """number of blocks in each of the four layers of the ResNet"""

    def holds_out(self) -> bool:
        """Whether there are validation images."""
        return self.validation_size != 0

    def holding_out(self) -> Self:
        """The same options, with a tenth of the images held out."""
        return dataclasses.replace(self, validation_size=None)
