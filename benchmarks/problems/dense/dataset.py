"""The records of NYUv2 and Cityscapes: presets, titles and units."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from benchmarks.data import specs
from benchmarks.data.specs import DenseName
from benchmarks.problems.dataset import Dataset, Description, Sample, Shown, percent
from benchmarks.problems.dense.settings import SHARED_REPRESENTATION, DenseConfig, DenseNetwork
from benchmarks.problems.image_settings import PAPER_TRAIN, QUICK_TRAIN, opened
from benchmarks.settings import Preset, TrainConfig

if TYPE_CHECKING:
    from benchmarks.problems.problem import Problem


def _dataset(name: DenseName, description: Description, batch_size: int) -> Dataset[DenseConfig]:
    def setting(preset: Preset, network: str) -> tuple[DenseConfig, TrainConfig]:
        data, train = DenseConfig(), dataclasses.replace(PAPER_TRAIN, batch_size=batch_size)
        # The command line rejects unknown networks later.
        if network in get_args(DenseNetwork):
            data = dataclasses.replace(data, network=network)  # type: ignore[arg-type]
        if name == "nyuv2" and network.startswith("segnet"):  # Table 6
            data = dataclasses.replace(data, augment=True)
            train = dataclasses.replace(train, batch_size=2)
        if preset != "quick":
            return data, train
        blocks = 2 if data.network == "mtan" else 1  # MTAN needs two
        # Of ten epochs the mean would say little: validation chooses one.
        narrow = dataclasses.replace(data, width=8, blocks=(blocks,) * 4).holding_out()
        return narrow, QUICK_TRAIN

    def make(data: DenseConfig, train: TrainConfig) -> "Problem":
        from benchmarks.problems.dense.problem import DenseProblem

        return DenseProblem(name, data, train.batch_size)

    return Dataset(
        name,
        description,
        setting,
        opened(name, make),
        shares_representation=lambda network: network in SHARED_REPRESENTATION,
        folder=f"{name}/{specs.VERSION}",
        sample=Sample(train=64, test=16, height=96, width=128),
    )


def _description(name: DenseName, unit: str, scale: str, printed: str) -> Description:
    """The description of a data set.

    Args:
      name: name of the data set.
      unit: unit of the absolute error of the depth; empty if it has none.
      scale: what the depth is called in pictures.
      printed: name of the paper's table with DeepLab.
    """
    shown = {
        "mIoU": percent("mIoU"),
        "PAcc": percent("PAcc"),
        "AErr": Shown("AErr", unit),
        "mean": Shown("mean angle", "°"),
        "median": Shown("median angle", "°"),
    }

    def metric(task: str, metric: str) -> Shown:
        if metric.startswith("<"):
            return percent(f"within {metric[1:]}°")
        return shown.get(metric, Shown(metric))

    def printed_table(network: str) -> str | None:
        if network in ("", "deeplab"):  # older records do not name it
            return printed
        # The values that the paper quotes are of MTAN on SegNet; Figure 4 has no table.
        return "table6" if name == "nyuv2" and network.startswith("segnet") else None

    return Description(
        title=specs.DENSE[name].title,
        tasks={"segmentation": "Segmentation", "depth": "Depth", "normals": "Normals"},
        losses={
            "segmentation": "cross-entropy",
            "depth": f"mean absolute error, {unit}" if unit else "mean absolute error",
            "normals": "1 − mean cosine",
        },
        metric=metric,
        networks={
            "deeplab": "DeepLabV3+",
            "segnet": "SegNet",
            "segnet_mtan": "MTAN on SegNet",
            "mtan": "MTAN",
            "cross_stitch": "Cross-stitch",
        },
        targets={"depth": scale},
        printed_table=printed_table,
        printed_column=lambda task, metric: metric.removeprefix("<"),
        notes=_notes,
    )


_SEGNET = (
    "Single-task networks are plain SegNets, as attention between one task and itself is none; the "
    "weight decay is that of Section 4.1, where the code that the paper's figures are quoted from "
    "has none."
)


def _notes(settings: Mapping[str, Any]) -> list[str]:
    """What the single-task networks are, and which epoch the test metrics are of."""
    data, train = settings.get("data", {}), settings.get("train", {})
    network = [_SEGNET] * (data.get("network") == "segnet_mtan")
    if "validation_size" not in data:
        return network
    if data["validation_size"] != 0:
        return [
            *network,
            "A part of the training images is held out and chooses the epoch that is tested; the "
            "paper trains on all of them.",
        ]
    count = min(train.get("last_epochs", 1), train.get("epochs", 1))
    which = f"are the mean of the last {count} epochs" if count > 1 else "are of the last epoch"
    return [*network, f"All training images are trained on; the test metrics {which}."]


NYUV2 = _dataset("nyuv2", _description("nyuv2", "m", "depth (m)", "table1"), batch_size=8)
CITYSCAPES = _dataset(
    "cityscapes", _description("cityscapes", "", "disparity", "table2"), batch_size=64
)
