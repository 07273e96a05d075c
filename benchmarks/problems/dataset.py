"""What the other rooms know of a data set: a record of each, which `datasets` lists.

Records import neither JAX nor the packages that read the data.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from benchmarks.errors import UserError
from benchmarks.settings import DataConfig, Preset, TrainConfig

if TYPE_CHECKING:
    from benchmarks.problems.problem import Problem


Config = TypeVar("Config", bound=DataConfig)


class Shown(NamedTuple):
    """How tables and plots show a metric."""

    title: str
    unit: str = ""
    """empty if there is none"""
    scale: float = 1.0
    """factor from the values in the files to those in tables and plots"""


def percent(title: str) -> Shown:
    """A share in the files, which is shown in percent."""
    return Shown(title, "%", 100.0)


@dataclasses.dataclass(frozen=True)
class Description:
    """The words for a data set in tables, plots and captions."""

    title: str
    """name of the data set"""
    tasks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """titles of the tasks whose names are no titles"""
    losses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """name of the loss of every task; that of "" is of all others"""
    metric: Callable[[str, str], Shown] = lambda task, metric: Shown(metric)
    """(task, metric) -> how it is shown"""
    digits: int = 4
    """number of significant digits of a metric"""
    networks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """titles of the networks, if there are several"""
    targets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """what scales of colours say in pictures of targets, by task"""
    printed_table: Callable[[str], str | None] = lambda network: None
    """network -> name of the paper's table of this data set; None if the paper has none"""
    printed_column: Callable[[str, str], str] = lambda task, metric: metric
    """(task, metric) -> column in that table"""
    examples: str = "images"
    """what is counted in a training set"""
    quick: str = "few epochs and a narrower network"
    """what the shorter presets save"""
    notes: Callable[[Mapping[str, Any]], list[str]] = lambda settings: []
    """content of config.json -> notes that readers of the results need"""

    def network(self, name: str) -> str:
        """The title of a network."""
        return self.networks.get(name, name)

    def loss(self, task: str) -> str:
        """The name of a task's loss; empty if it is not known."""
        return self.losses.get(task, self.losses.get("", ""))


class Sample(NamedTuple):
    """The size of the rendered sample that replaces a data set; it trains for minutes."""

    train: int
    test: int
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class Dataset(Generic[Config]):
    """A data set: how it is set up, opened and described."""

    name: str
    """name on the command line and in files"""
    description: Description
    """words for tables and plots"""
    setting: Callable[[Preset, str], tuple[Config, TrainConfig]]
    """(one of `presets`, network or "" for the usual one) -> its options, see `preset`"""
    open: Callable[[Config, TrainConfig], "Problem"]
    """reads the data; it raises UserError if they are missing, or do not go with the options"""
    presets: tuple[Preset, ...] = ("quick", "paper")
    """the presets that the data set has"""
    shares_representation: Callable[[str], bool] = lambda network: True
    """network -> whether its heads share one representation"""
    folder: str | None = None
    """where the prepared data are, within the folder of all prepared data sets; None if they need
    not be prepared"""
    sample: Sample | None = None
    """size of the sample that replaces missing data"""

    def preset(self, name: Preset, network: str = "") -> tuple[Config, TrainConfig]:
        """The options of a preset, for the usual network or another one.

        Raises:
          UserError: if the data set has no such preset.
        """
        if name not in self.presets:
            raise UserError(
                f"--preset {name}: {self.name} has the presets {' and '.join(self.presets)} alone"
            )
        return self.setting(name, network)

    def is_prepared(self, data_dir: pathlib.Path) -> bool:
        """Whether the data are in a folder of prepared data sets, or need not be."""
        return self.folder is None or (data_dir / self.folder).is_dir()
