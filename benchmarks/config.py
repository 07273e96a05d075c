"""The settings of an experiment: the command line, and what is saved beside the results."""

import dataclasses
import pathlib
from typing import Annotated, Any, Literal

import tyro

from benchmarks.data.batching import BUCKET_SIZES
from benchmarks.data.vision.specs import Name

Preset = Literal["quick", "small", "paper"]
DenseNetwork = Literal["deeplab", "segnet", "segnet_mtan", "mtan", "cross_stitch"]


@dataclasses.dataclass(frozen=True)
class QM9Config:
    """QM9: eleven properties of small molecules, the network and protocol of the paper's Table 3.

    The defaults are the paper's setting (`--preset paper`).
    """

    source: Literal["qm9pack", "tfds"] = "qm9pack"
    """where the molecules come from: the PyPI package, or TFDS (downloads)"""
    data_dir: pathlib.Path | None = None
    """folder of the data; None: the source's own"""
    train_size: int | None = None
    """training molecules; None: all that validation and test leave (110,831)"""
    validation_size: int = 10_000
    test_size: int = 10_000
    split_seed: int = 0
    bucket_sizes: tuple[int, ...] = BUCKET_SIZES
    """atoms that a batch is padded to: the smallest that holds its molecules"""
    width: int = 64
    """of the atoms' states"""
    edge_width: int = 128
    """hidden units of the network on the edges"""
    message_steps: int = 3


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The training loop. The defaults are the paper's for QM9."""

    epochs: int = 300
    batch_size: int = 128
    """of every task, where tasks have images of their own"""
    learning_rate: float = 1e-3
    """of Adam"""
    weight_decay: float = 0.0
    """added to the gradient before Adam, times the parameters (L2, as in torch's Adam)"""
    schedule: Literal["plateau", "halve", "constant"] = "plateau"
    """of the learning rate: shrinks when validation stops improving, or is halved once after half
    of the epochs, or stays"""
    plateau_factor: float = 0.7
    """the learning rate shrinks by this once validation stops improving"""
    plateau_patience: int = 5
    """epochs without improvement that are let pass"""
    min_learning_rate: float = 1e-5
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """of the messages between atoms in training (QM9 alone); all else is float32"""
    log_every: int = 100
    """steps between two records of the training losses"""


@dataclasses.dataclass(frozen=True)
class DenseConfig:
    """NYUv2 or Cityscapes with a network for dense prediction. The defaults are the paper's."""

    data_dir: pathlib.Path = pathlib.Path("data")
    """folder of the prepared data sets: the `--out` of `prepare`"""
    network: DenseNetwork = "deeplab"
    weights: pathlib.Path | None = None
    """ImageNet weights of the ResNet-50, .safetensors or .npz by torchvision's names; None: it
    starts from scratch"""
    augment: bool = False
    """crop and flip training images at random"""
    validation_size: int | None = None
    """training images that are held out to choose the epoch; None: a tenth; 0: none, the last epoch
    counts"""
    split_seed: int = 0
    """of the hold-out"""
    width: int = 64
    """channels of the first layer, which those of all others follow"""
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """of the ResNet's four layers"""


@dataclasses.dataclass(frozen=True)
class OfficeConfig:
    """Office-31 or Office-Home with a ResNet-18. The defaults are the paper's."""

    data_dir: pathlib.Path = pathlib.Path("data")
    """folder of the prepared data sets: the `--out` of `prepare`"""
    network: Literal["resnet18"] = "resnet18"
    weights: pathlib.Path | None = None
    """ImageNet weights of the ResNet-18, .safetensors or .npz by torchvision's names; None: it
    starts from scratch"""
    lists: pathlib.Path | None = None
    """folder of {domain}_{train,val,test}.txt; None: 60/20/20"""
    split_seed: int = 0
    """of the division 60/20/20"""
    width: int = 64
    """channels of the first layer, which those of all others follow"""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """of the ResNet's four layers"""


DataConfig = QM9Config | DenseConfig | OfficeConfig


@dataclasses.dataclass(frozen=True)
class Compare:
    """Train several methods on one data set and compare them: a table, plots, and JSON lines.

    Which options there are besides these depends on the data set: `compare nyuv2 --help`.
    """

    dataset: Annotated[Literal["qm9", Name], tyro.conf.Positional]
    data: Annotated[tyro.conf.AvoidSubcommands[DataConfig], tyro.conf.arg(name="")]
    train: TrainConfig
    methods: tuple[str, ...] = ("stl", "ew", "db_mtl")
    """names of `dbmtl_jax.METHODS`, stl, the baseline that Δp is relative to, chains of a loss
    balancer and a method such as log+pcgrad, and options such as db_mtl@beta=0.1 or
    db_mtl@scale=min; all: stl and every method"""
    preset: Preset = "quick"
    """the defaults of all other settings: minutes on a laptop, an hour or two there for all methods
    (QM9 alone), or the paper's"""
    out: pathlib.Path = pathlib.Path("runs")
    """folder of the results; runs that are complete there are not repeated"""
    seeds: int = 1
    """how many seeds of initialisation and order of batches"""
    vmap_seeds: bool = False
    """train all seeds of a method that are missing as one program: where an accelerator has room"""
    mesh: str = ""
    """devices, such as data=4,fsdp=2: both divide batches, fsdp also the parameters and all that is
    kept of them; empty: one device, or with --distributed all of them as data"""
    distributed: bool = False
    """this is one of several processes that train together, of a cluster that JAX knows, or as the
    next three options say"""
    coordinator: str | None = None
    """host:port of process 0"""
    process_id: int | None = None
    num_processes: int | None = None
    checkpoint_seconds: float = 60.0
    """between two states of a run on disk, from which it goes on after a crash"""
    time_steps: int = 0
    """time a step of every method so many times, in turns; 0: the runs' own speeds are shown"""

    def settings(self) -> dict[str, Any]:
        """All that a run's figures depend on, as JSON: a folder of results has one such setting."""
        data = _jsonable(self.data)
        del data["data_dir"]  # where they lie makes no difference
        train = _jsonable(self.train)
        if train["compute_dtype"] == "float32":
            del train["compute_dtype"]  # as in folders that are older than this setting
        return {"dataset": self.dataset, "preset": self.preset, "data": data, "train": train}


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Make tables and figures of the paper: run what is missing, then render them.

    Without its data set prepared in --data-dir, an exhibit is made from QM9, or from rendered
    samples where it is about the data set itself; it says so.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """table1 ... table6, figure1 ... figure10, or all"""
    preset: Preset = "quick"
    """quick: minutes for each method; small: longer, QM9 alone; paper: the paper's setting"""
    seeds: int = 3
    data_dir: pathlib.Path = pathlib.Path("data")
    """folder of the prepared data sets: the `--out` of `prepare`"""
    weights: pathlib.Path | None = None
    """ImageNet weights of the ResNets, see `compare`"""
    out: pathlib.Path = pathlib.Path("runs/reproduce")
    """folder of the runs, a folder for each data set and network, and of what is rendered"""
    list: bool = False
    """only tell what would run, what is done, and about how long the rest takes"""
    measure: int = 0
    """time so many steps first, for --list to estimate from"""
    search_beta: bool = False
    """let validation choose DB-MTL's forgetting rate from the paper's six; always with the paper's
    preset"""
    rounds: int = 9
    """timed steps of every method, in turns, where times are shown"""
    vmap_seeds: bool = False
    """see `compare`"""
    checkpoint_seconds: float = 60.0
    """see `compare`"""


@dataclasses.dataclass(frozen=True)
class Report:
    """Make tables, plots and a page out of folders of results, without data or training."""

    folder: Annotated[pathlib.Path, tyro.conf.Positional]
    """of one comparison, or of folders of comparisons; the files are written there"""


@dataclasses.dataclass(frozen=True)
class Perf:
    """Time DB-MTL's step against equal weighting's, for every mode of the engine.

    The programs take turns, so that a change in the machine's speed falls on all of them; what
    counts is the median of the ratios, not the times.
    """

    networks: tuple[Literal["mlp", "qm9", "resnet"], ...] = ("mlp", "qm9", "resnet")
    """none: leave the steps out"""
    num_tasks: tuple[int, ...] = (2, 3, 11)
    modes: tuple[Literal["unroll", "loop", "vmap", "stream"], ...] = (
        "unroll",
        "loop",
        "vmap",
        "stream",
    )
    """of the engine; stream: gradients that are never stacked, in the mode it chooses itself"""
    rounds: int = 7
    """timed steps of each program, after one that is not counted"""
    transformation: bool = True
    """also time the transformation alone, on ten million parameters"""
    aggregation: bool = True
    """also time the methods that work on the Gramian, on ten million parameters"""
    compilation: bool = True
    """also time the compilation of every method's step, and count its programs"""
    peers: bool = False
    """also time DB-MTL's step in PyTorch: a plain loop, TorchJD, and LibMTL, in --torch-python"""
    torch_python: pathlib.Path | None = None
    """a Python that has torch and torchjd, and LibMTL if it is to be timed; times TorchJD's Gramian
    methods, too"""
    against: pathlib.Path | None = None
    """another checkout of this project, an older commit's for example: instead of all else, time
    its steps, transformation and Gramian methods in turns with this checkout's"""
    out: pathlib.Path = pathlib.Path("runs/perf")


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Check a folder of images and write it in the format that training reads."""

    dataset: Annotated[Name, tyro.conf.Positional]
    source: pathlib.Path
    """the folder: pre-processed npy files (NYUv2, Cityscapes) or the official images (Office)"""
    out: pathlib.Path = pathlib.Path("data")
    """folder of all prepared data sets"""


@dataclasses.dataclass(frozen=True)
class ConvertCityscapes:
    """Make the npy files that `prepare cityscapes` reads out of the official, unpacked archives.

    Needed are leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip and
    disparity_trainvaltest.zip, unpacked into one folder.
    """

    source: pathlib.Path
    """folder with leftImg8bit/, gtFine/ and disparity/"""
    out: pathlib.Path
    """new folder of the npy files"""


@dataclasses.dataclass(frozen=True)
class MakeSample:
    """Render a small data set in the real one's format on disk, to try things out without it."""

    dataset: Annotated[Name, tyro.conf.Positional]
    out: pathlib.Path
    """new folder of the files"""
    train: int = 64
    """images of the training set; Office has no such sets, there each domain gets train + test"""
    test: int = 16
    seed: int = 0
    height: int | None = None
    """of the images; None: as in the real data set"""
    width: int | None = None


def _jsonable(config: Any) -> dict[str, Any]:
    def value(x: Any) -> Any:
        if isinstance(x, pathlib.Path):
            return str(x)
        return list(x) if isinstance(x, tuple) else x

    return {field.name: value(getattr(config, field.name)) for field in dataclasses.fields(config)}
