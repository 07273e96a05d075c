"""The record of Multi-Fashion: presets and titles.

The published protocol is that of Lin et al., "Pareto Multi-Task Learning" (NeurIPS 2019), Section
6.1, and of their code: batches of 256 images, and 100 epochs with LeNet or 20 with a ResNet-18.
Adam with a learning rate of 10⁻³ is theirs for the ResNet; for LeNet it is that of Liu et al.,
"Conflict-Averse Gradient Descent for Multi-task Learning" (NeurIPS 2021), on the sister set
Multi-Fashion+MNIST, who also hold out a tenth of the training images. docs/multi_fashion.md says
what differs.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.problems.dataset import Dataset, Description, percent
from benchmarks.problems.image_settings import opened
from benchmarks.problems.multi_fashion.settings import MultiFashionConfig
from benchmarks.settings import Preset, TrainConfig

if TYPE_CHECKING:
    from benchmarks.problems.problem import Problem

NAME = "multi_fashion"

_TRAIN = TrainConfig(epochs=100, batch_size=256, schedule="halve")
_PAIRS = (
    "Images: pairs of Fashion-MNIST's garments drawn from a seed; the published results are of "
    "other pairs, drawn in the same way."
)


def _setting(preset: Preset, network: str) -> tuple[MultiFashionConfig, TrainConfig]:
    data, train, narrow = MultiFashionConfig(), _TRAIN, MultiFashionConfig()
    if network == "resnet18":  # the command line rejects unknown networks later
        data = dataclasses.replace(data, network="resnet18", width=64)
        narrow = dataclasses.replace(data, width=16, blocks=(1, 1, 1, 1))
        train = dataclasses.replace(train, epochs=20)
    if preset == "paper":
        return data, train
    few = dataclasses.replace(narrow, train_size=10_000, validation_size=2_000, test_size=5_000)
    return few, dataclasses.replace(train, epochs=8, batch_size=64, log_every=10)


def _open(data: MultiFashionConfig, train: TrainConfig) -> "Problem":
    from benchmarks.problems.multi_fashion.problem import MultiFashionProblem

    return MultiFashionProblem(data, train.batch_size)


def _notes(settings: Mapping[str, Any]) -> list[str]:
    held_out = settings.get("data", {}).get("validation_size", 1) != 0
    return [
        _PAIRS,
        "A tenth of the training garments is held out, of which the images are made that choose "
        "the epoch that is tested."
        if held_out
        else "All training garments are trained on; the test metrics are of the last epochs.",
    ]


MULTI_FASHION = Dataset(
    NAME,
    Description(
        title="Multi-Fashion",
        tasks={"top_left": "Top left", "bottom_right": "Bottom right"},
        losses={"": "cross-entropy"},
        metric=lambda task, metric: percent("accuracy"),
        networks={"lenet": "LeNet", "resnet18": "ResNet-18"},
        quick="a small subset and a small network",
        notes=_notes,
    ),
    _setting,
    opened(NAME, _open),
)
