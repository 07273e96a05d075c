"""The settings of experiments as dataclasses, which training reads.

The docstrings and the texts below the fields are also the help texts of the command line, see
`benchmarks.config`; nothing here needs the packages that make one.
"""

import dataclasses
import pathlib
from typing import Any, Literal, Self

Preset = Literal["quick", "small", "medium", "paper"]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The options of a data set and its network; each data set has its own."""

    @property
    def network(self) -> str:
        """The architecture of the network; empty if there is no choice."""
        return ""

    def holds_out(self) -> bool:
        """Whether a part of the training data is held out, to choose by."""
        return True

    def holding_out(self) -> Self:
        """The same options, with a part of the training data held out."""
        return self

    def parts_of_batch(self) -> int:
        """The number of parts of a batch that are divided between devices, each by itself."""
        return 1


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Options of training. The defaults are those of the paper for QM9."""

    epochs: int = 300
    """number of training epochs"""
    batch_size: int = 128
    """batch size; with Office-31 and Office-Home, the number of images of each task"""
    learning_rate: float = 1e-3
    """initial learning rate of Adam"""
    weight_decay: float = 0.0
    """L2 penalty as in PyTorch's Adam: this factor times the parameters is added to the gradient"""
    schedule: Literal["plateau", "halve", "constant"] = "plateau"
    """learning rate schedule: reduce it when validation stops improving, halve it once after half
    of the epochs, or keep it constant"""
    plateau_factor: float = 0.7
    """factor by which the plateau schedule reduces the learning rate"""
    plateau_patience: int = 5
    """number of epochs without improvement that the plateau schedule tolerates"""
    min_learning_rate: float = 1e-5
    """lowest learning rate of the plateau schedule"""
    last_epochs: int = 10
    """without a validation set: number of last epochs whose test metrics are averaged"""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """precision of the messages between atoms in training (QM9 only); all else uses float32"""
    log_every: int = 100
    """number of steps between two records of the training losses"""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` trains, and where; `benchmarks.config.Compare` is its command line."""

    dataset: str
    """data set to train on"""
    data: DataConfig
    train: TrainConfig
    methods: tuple[str, ...] = ("stl", "ew", "db_mtl")
    """methods to train: stl (the baseline of Δp), names of `dbmtl_jax.METHODS`, also after a loss
    balancer (log+pcgrad) or with options (db_mtl@beta=0.1,scale=min); all: those that the paper
    compares; beyond: those that it does not"""
    preset: Preset = "quick"
    """defaults of the other options. quick: minutes per method on a laptop; small (QM9 only): an
    hour or two for all methods; medium (QM9 only): a tenth of the molecules, for as many epochs
    as the learning rate takes to fall; paper: the settings of the paper"""
    out: pathlib.Path = pathlib.Path("runs")
    """folder of the results; complete runs in this folder are not repeated"""
    seeds: int = 1
    """number of runs per method, with different initial parameters and orders of the batches"""
    vmap_seeds: bool = False
    """train all missing seeds of a method at once (vmap), which needs more device memory"""
    mesh: str = ""
    """device mesh such as data=4,fsdp=2: both axes split the batch, fsdp also splits the parameters
    and optimizer state; empty: one device, or with --distributed all devices as data"""
    distributed: bool = False
    """this process is one of several that train together; JAX detects the cluster unless the next
    three options describe it"""
    coordinator: str | None = None
    """host:port of process 0 (with --distributed)"""
    process_id: int | None = None
    """number of this process, counted from 0 (with --distributed)"""
    num_processes: int | None = None
    """total number of processes (with --distributed)"""
    checkpoint_seconds: float = 60.0
    """minimum seconds between two checkpoints, from which an interrupted run resumes"""
    jobs: int = 1
    """number of processes that train side by side, each on a core of its own; for small networks"""
    time_steps: int = 0
    """number of times to measure the training step of every method, with the methods in turns;
    0: report the speed measured during training"""

    def settings(self) -> dict[str, Any]:
        """All settings that the results depend on, as JSON; they are the same in a whole folder."""
        data = _jsonable(self.data)
        del data["data_dir"]  # the location of the data does not change the results
        data.pop("from_scratch", None)  # follows from the weights
        train = _jsonable(self.train)
        if train["compute_dtype"] == "float32":
            del train["compute_dtype"]  # folders older than this option do not have it
        return {"dataset": self.dataset, "preset": self.preset, "data": data, "train": train}


def _jsonable(config: Any) -> dict[str, Any]:
    def value(x: Any) -> Any:
        if isinstance(x, pathlib.Path):
            return str(x)
        return list(x) if isinstance(x, tuple) else x

    return {field.name: value(getattr(config, field.name)) for field in dataclasses.fields(config)}
