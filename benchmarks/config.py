"""The options of the command line as dataclasses.

The docstrings and the texts below the fields are the help texts of the command line.
"""

import dataclasses
import pathlib
from typing import Annotated, Any, Literal, get_args

import tyro

from benchmarks.data.batching import BUCKET_SIZES
from benchmarks.data.vision.specs import Name

Preset = Literal["quick", "small", "paper"]
DenseNetwork = Literal["deeplab", "segnet", "segnet_mtan", "mtan", "cross_stitch"]


@dataclasses.dataclass(frozen=True)
class QM9Config:
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
    bucket_sizes: tuple[int, ...] = BUCKET_SIZES
    """numbers of atoms that batches are padded to; a batch uses the smallest one that fits"""
    width: int = 64
    """size of the state vector of an atom"""
    edge_width: int = 128
    """hidden units of the edge network"""
    message_steps: int = 3
    """number of message-passing steps"""


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
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """precision of the messages between atoms in training (QM9 only); all else uses float32"""
    log_every: int = 100
    """number of steps between two records of the training losses"""


@dataclasses.dataclass(frozen=True)
class DenseConfig:
    """NYUv2 or Cityscapes with a network for dense prediction. The defaults are the paper's."""

    data_dir: pathlib.Path = pathlib.Path("data")
    """folder of the prepared data sets, the `--out` of the command `prepare`"""
    network: DenseNetwork = "deeplab"
    """architecture of the network"""
    weights: pathlib.Path | None = None
    """file with ImageNet weights of the ResNet-50, .safetensors or .npz, named as in torchvision;
    None: random initial weights"""
    augment: bool = False
    """crop and flip the training images at random"""
    validation_size: int | None = None
    """number of training images held out for validation, which chooses the best epoch; None: a
    tenth; 0: none, the last epoch counts"""
    split_seed: int = 0
    """random seed that chooses the validation images"""
    width: int = 64
    """number of channels of the first layer; all other layers scale with it"""
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """number of blocks in each of the four layers of the ResNet"""


@dataclasses.dataclass(frozen=True)
class OfficeConfig:
    """Office-31 or Office-Home with a ResNet-18. The defaults are the paper's."""

    data_dir: pathlib.Path = pathlib.Path("data")
    """folder of the prepared data sets, the `--out` of the command `prepare`"""
    network: Literal["resnet18"] = "resnet18"
    """architecture of the network"""
    weights: pathlib.Path | None = None
    """file with ImageNet weights of the ResNet-18, .safetensors or .npz, named as in torchvision;
    None: random initial weights"""
    lists: pathlib.Path | None = None
    """folder of the files {domain}_{train,val,test}.txt, which list the images of each split; None:
    a random split of 60/20/20 percent"""
    split_seed: int = 0
    """random seed of the 60/20/20 split"""
    width: int = 64
    """number of channels of the first layer; all other layers scale with it"""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """number of blocks in each of the four layers of the ResNet"""


DataConfig = QM9Config | DenseConfig | OfficeConfig


@dataclasses.dataclass(frozen=True)
class Compare:
    """Train several methods on one data set and compare them in a table and plots.

    The options of the data and the network depend on the data set, see `compare nyuv2 --help`.
    """

    dataset: Annotated[Literal["qm9", Name], tyro.conf.Positional]
    """data set to train on"""
    data: Annotated[tyro.conf.AvoidSubcommands[DataConfig], tyro.conf.arg(name="")]
    train: TrainConfig
    methods: tuple[str, ...] = ("stl", "ew", "db_mtl")
    """methods to train: stl (the baseline of Δp), names of `dbmtl_jax.METHODS`, also after a loss
    balancer (log+pcgrad) or with options (db_mtl@beta=0.1,scale=min); all: those that the paper
    compares; beyond: those that it does not"""
    preset: Preset = "quick"
    """defaults of the other options. quick: minutes per method on a laptop; small (QM9 only): an
    hour or two for all methods; paper: the settings of the paper"""
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
    time_steps: int = 0
    """number of times to measure the training step of every method, with the methods in turns;
    0: report the speed measured during training"""

    def settings(self) -> dict[str, Any]:
        """All settings that the results depend on, as JSON; they are the same in a whole folder."""
        data = _jsonable(self.data)
        del data["data_dir"]  # the location of the data does not change the results
        train = _jsonable(self.train)
        if train["compute_dtype"] == "float32":
            del train["compute_dtype"]  # folders older than this option do not have it
        return {"dataset": self.dataset, "preset": self.preset, "data": data, "train": train}


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Make tables and figures of the paper: train the missing runs, then write the files.

    If a data set is not prepared in --data-dir, QM9 or rendered sample images replace it, and the
    table or figure says so.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """what to make: table1 ... table6, figure1 ... figure10, or all"""
    preset: Preset = "quick"
    """quick: minutes per method; small (QM9 only): longer; paper: the settings of the paper"""
    seeds: int = 3
    """number of runs per method, with different random seeds"""
    data_dir: pathlib.Path = pathlib.Path("data")
    """folder of the prepared data sets, the `--out` of the command `prepare`"""
    weights: pathlib.Path | None = None
    """file with ImageNet weights of the ResNets, see `compare nyuv2 --help`"""
    out: pathlib.Path = pathlib.Path("runs/reproduce")
    """folder of the tables and figures; the runs are in a subfolder per data set and network"""
    list: bool = False
    """only list the runs, how many are done, and the estimated time of the rest"""
    measure: int = 0
    """number of training steps to time first, for the estimates of --list; 0: none"""
    search_beta: bool = False
    """choose DB-MTL's forgetting rate by validation among the six of the paper; always done with
    --preset paper"""
    rounds: int = 9
    """number of timed steps per method, for figures that show times"""
    vmap_seeds: bool = False
    """train all missing seeds of a method at once (vmap), which needs more device memory"""
    checkpoint_seconds: float = 60.0
    """minimum seconds between two checkpoints, from which an interrupted run resumes"""


@dataclasses.dataclass(frozen=True)
class Report:
    """Make tables, plots and an HTML page from existing results, without data or training."""

    folder: Annotated[pathlib.Path, tyro.conf.Positional]
    """results of one `compare`, or a folder of such folders; the report is written there"""


Mode = Literal[
    "readme",
    "unroll",
    "loop",
    "vmap",
    "stream",
    "representation",
    "measured",
    "refresh4",
    "refresh16",
]


@dataclasses.dataclass(frozen=True)
class Perf:
    """Time a training step of DB-MTL relative to one of equal weighting (EW).

    The programs run in turns, so that a change in the machine's speed affects all of them alike.
    The result is the median of the ratios.
    """

    networks: tuple[Literal["mlp", "qm9", "resnet", "deeplab"], ...] = ("mlp", "qm9", "resnet")
    """networks whose training steps are timed; give no name to skip these; deeplab goes with
    --compile-for only"""
    num_tasks: tuple[int, ...] = (2, 3, 11)
    """numbers of tasks to measure"""
    modes: tuple[Mode, ...] = get_args(Mode)
    """ways to compute the task gradients: readme: as the example of the README does; unroll, loop,
    vmap: see `dbmtl_jax.value_and_task_grads`; stream: without storing all of them at once; and
    the cheap forms of DB-MTL: it reads the gradients of the representation or of the last shared
    layer, or all gradients in every 4th or 16th step"""
    rounds: int = 7
    """number of timed steps of each program, after one warm-up step"""
    transformation: bool = True
    """also time DB-MTL's gradient transformation alone, on ten million parameters"""
    aggregation: bool = True
    """also time the methods that use inner products of the gradients, on ten million parameters"""
    compilation: bool = True
    """also measure how long the training step of every method takes to compile, and how often"""
    peers: bool = False
    """also time DB-MTL in PyTorch (a plain loop, TorchJD and LibMTL); needs --torch-python"""
    torch_python: pathlib.Path | None = None
    """Python interpreter that has torch and torchjd, and optionally LibMTL; with it, --aggregation
    also times TorchJD"""
    against: pathlib.Path | None = None
    """folder of another checkout of this project, such as an older commit: time its steps in turns
    with this checkout's, instead of everything else"""
    compile_for: tuple[Literal["v5e", "v5p", "v6e", "h100"], ...] = ()
    """accelerators, which need not be there: compile the steps of --networks, --num-tasks and
    --modes for them and tell what the programs take, instead of everything else; nothing is run"""
    methods: tuple[str, ...] = ()
    """with --compile-for: further methods, each as it is made by default and with gradients that
    stream"""
    batch_size: int | None = None
    """with --compile-for: examples in a batch; None: the network's own"""
    largest_batch: bool = False
    """with --compile-for: look for the largest batch that fits, too, with more programs"""
    keep_memory: bool = True
    """keep freed memory for the next step, as training does; see `benchmarks/allocator.py`"""
    out: pathlib.Path = pathlib.Path("runs/perf")
    """folder of the results"""


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Check a folder of images and write it in the format that training reads."""

    dataset: Annotated[Name, tyro.conf.Positional]
    """data set to prepare"""
    source: pathlib.Path
    """folder with the pre-processed .npy files (NYUv2, Cityscapes) or official images (Office)"""
    out: pathlib.Path = pathlib.Path("data")
    """folder to write to, shared by all prepared data sets"""


@dataclasses.dataclass(frozen=True)
class ConvertCityscapes:
    """Convert the official images of Cityscapes to the .npy files that `prepare cityscapes` reads.

    Unpack leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip and disparity_trainvaltest.zip
    into one folder first.
    """

    source: pathlib.Path
    """folder that contains leftImg8bit/, gtFine/ and disparity/"""
    out: pathlib.Path
    """new folder for the .npy files"""


@dataclasses.dataclass(frozen=True)
class MakeSample:
    """Render a small artificial data set in the file format of the real one, to try things out."""

    dataset: Annotated[Name, tyro.conf.Positional]
    """data set to imitate"""
    out: pathlib.Path
    """new folder for the images"""
    train: int = 64
    """number of training images; with Office, each domain has train + test images"""
    test: int = 16
    """number of test images"""
    seed: int = 0
    """random seed of the images"""
    height: int | None = None
    """height of the images in pixels; None: as in the real data set"""
    width: int | None = None
    """width of the images in pixels; None: as in the real data set"""


def _jsonable(config: Any) -> dict[str, Any]:
    def value(x: Any) -> Any:
        if isinstance(x, pathlib.Path):
            return str(x)
        return list(x) if isinstance(x, tuple) else x

    return {field.name: value(getattr(config, field.name)) for field in dataclasses.fields(config)}
