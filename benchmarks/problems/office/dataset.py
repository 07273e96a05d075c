"""The records of Office-31 and Office-Home: presets and titles."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmarks.data import specs
from benchmarks.data.specs import OfficeName
from benchmarks.problems.dataset import Dataset, Description, Sample, percent
from benchmarks.problems.image_settings import PAPER_TRAIN, QUICK_TRAIN, opened
from benchmarks.problems.office.settings import OfficeConfig
from benchmarks.settings import Preset, TrainConfig

if TYPE_CHECKING:
    from benchmarks.problems.problem import Problem

_TRAIN = dataclasses.replace(PAPER_TRAIN, epochs=100, batch_size=64, schedule="constant")


def _dataset(name: OfficeName, domains: Mapping[str, str], printed: str) -> Dataset[OfficeConfig]:
    """The record of a data set.

    Args:
      name: name of the data set.
      domains: title of every domain.
      printed: name of the paper's table.
    """

    def setting(preset: Preset, network: str) -> tuple[OfficeConfig, TrainConfig]:
        if preset == "paper":
            return OfficeConfig(), _TRAIN
        narrow = OfficeConfig(width=16, blocks=(1, 1, 1, 1))
        return narrow, dataclasses.replace(QUICK_TRAIN, schedule=_TRAIN.schedule)

    def make(data: OfficeConfig, train: TrainConfig) -> "Problem":
        from benchmarks.problems.office.problem import OfficeProblem

        return OfficeProblem(name, data, train.batch_size)

    return Dataset(
        name,
        Description(
            title=specs.OFFICE[name].title,
            tasks=domains,
            losses={"": "cross-entropy"},
            metric=lambda task, metric: percent("accuracy"),
            printed_table=lambda network: printed,
            printed_column=lambda task, metric: domains[task],
        ),
        setting,
        opened(name, make),
        shares_representation=lambda network: False,  # each domain has its own images
        folder=f"{name}/{specs.VERSION}",
        sample=Sample(train=480, test=120, height=64, width=64),
    )


OFFICE31 = _dataset(
    "office31", {"amazon": "Amazon", "dslr": "DSLR", "webcam": "Webcam"}, "table4_office31"
)
OFFICEHOME = _dataset(
    "officehome",
    {"Art": "Artistic", "Clipart": "Clipart", "Product": "Product", "Real_World": "Real"},
    "table4_officehome",
)
