"""The options of the command line as dataclasses.

The docstrings and the texts below the fields are the help texts of the command line. What training
reads is in `benchmarks.settings`.
"""

import dataclasses
import pathlib
from typing import Annotated, Any, Literal, get_args

import tyro

from benchmarks.data.specs import Name
from benchmarks.problems.dataset import Dataset
from benchmarks.settings import Comparison, Preset


@dataclasses.dataclass(frozen=True)
class Compare(Comparison):
    """Train several methods on one data set and compare them in a table and plots.

    The options depend on the data set, see `compare nyuv2 --help`.
    """

    dataset: tyro.conf.Suppress[str]

    @classmethod
    def preset_of(cls, dataset: Dataset[Any], preset: Preset, network: str = "") -> "Compare":
        """The command with the options of a preset, for one of the data set's networks."""
        data, train = dataset.preset(preset, network)
        several = dataset.description.networks
        folder = f"{dataset.name}-{data.network}" if several else dataset.name
        return cls(dataset.name, data, train, preset=preset, out=pathlib.Path("runs") / folder)


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Make tables and figures of the paper: train the missing runs, then write the files.

    If a data set is not prepared in --data-dir, QM9 or rendered sample images replace it, and the
    table or figure says so.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """what to make: table1 ... table6, figure1 ... figure10, or all of these; and what the paper
    does not have: cheap_forms, learning_rates"""
    preset: Preset = "quick"
    """quick: minutes per method; small and medium (QM9 only): longer; paper: the settings of the
    paper"""
    seeds: int = 3
    """number of runs per method, with different random seeds"""
    data_dir: pathlib.Path = pathlib.Path("data")
    """folder of the prepared data sets, the `--out` of the command `prepare`"""
    weights: pathlib.Path | None = None
    """folder with ImageNet weights, resnet50 and resnet18 (.safetensors or .npz), named as in
    torchvision; each network reads its own"""
    from_scratch: bool = False
    """begin from random initial weights, also with --preset paper"""
    out: pathlib.Path = pathlib.Path("runs/reproduce")
    """folder of the tables and figures; the runs are in a subfolder per data set and network"""
    list: bool = False
    """only list the runs, how many are done, and the estimated time of the rest"""
    measure: int = 0
    """number of training steps to time first, for the estimates of --list; 0: none"""
    search_beta: bool = False
    """choose DB-MTL's forgetting rate by validation among the six of the paper; always done with
    --preset paper"""
    hold_out: bool = False
    """NYUv2 and Cityscapes: hold out a tenth of the training images, to choose the epoch and the
    forgetting rate of DB-MTL by; always done with --preset quick, not in the paper"""
    rounds: int = 9
    """number of timed steps per method, for figures that show times"""
    vmap_seeds: bool = False
    """train all missing seeds of a method at once (vmap), which needs more device memory"""
    jobs: int = 1
    """number of processes that train side by side, each on a core of its own"""
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
    compile_for: tuple[Literal["v5e", "v5p", "v6e", "h100"], ...] | None = None
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
