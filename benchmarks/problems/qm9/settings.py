"""The options of QM9."""

import dataclasses
import pathlib
from typing import Literal

from benchmarks.settings import DataConfig


@dataclasses.dataclass(frozen=True)
class QM9Config(DataConfig):
    """QM9: eleven properties of small molecules, as in Table 3 of the paper.

    The defaults are the settings of the paper (`--preset paper`).
    """

    source: Literal["qm9pack", "tfds"] = "qm9pack"
    """where to read the molecules: the PyPI package qm9pack, or TensorFlow Datasets (downloads)"""
    data_dir: pathlib.Path | None = None
    """folder of the data; None: the default folder of the source"""
    train_size: int | None = None
    """number of training molecules; None: all that are not held out (110,831 by default)"""
    validation_size: int = 10_000
    """number of molecules held out for validation"""
    test_size: int = 10_000
    """number of molecules held out for the test"""
    split_seed: int = 0
    """random seed of the split into training, validation and test set"""
    chunks: int = 4
    """number of chunks that a random batch is sorted into by size; each has its own padding"""
    width: int = 64
    """size of the state vector of an atom"""
    edge_width: int = 128
    """hidden units of the edge network"""
    message_steps: int = 3
    """number of message-passing steps"""

    def parts_of_batch(self) -> int:
        """The number of chunks."""
        return self.chunks
