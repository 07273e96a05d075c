"""All data sets by name."""

from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.errors import look_up
from benchmarks.problems.dataset import Dataset, Description
from benchmarks.problems.dense.dataset import CITYSCAPES, NYUV2
from benchmarks.problems.multi_fashion.dataset import MULTI_FASHION
from benchmarks.problems.office.dataset import OFFICE31, OFFICEHOME
from benchmarks.problems.qm9.dataset import QM9

DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {
        dataset.name: dataset
        for dataset in (QM9, NYUV2, CITYSCAPES, OFFICE31, OFFICEHOME, MULTI_FASHION)
    }
)


def find(name: str) -> Dataset:
    """The data set of a name.

    Raises:
      UserError: if there is none.
    """
    return look_up(name, DATASETS, "data set")


def describe(name: str) -> Description:
    """The words for a data set; records may be of one that is not listed here."""
    return DATASETS[name].description if name in DATASETS else Description(name)
