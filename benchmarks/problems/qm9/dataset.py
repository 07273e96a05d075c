"""The record of QM9: presets, titles and units."""

from typing import TYPE_CHECKING, get_args

from benchmarks.problems.dataset import Dataset, Description, Shown
from benchmarks.problems.qm9.molecules import TASKS, UNITS
from benchmarks.problems.qm9.settings import QM9Config
from benchmarks.settings import Preset, TrainConfig

if TYPE_CHECKING:
    from benchmarks.problems.qm9.problem import QM9Problem

_QUICK = QM9Config(
    train_size=1_280,
    validation_size=500,
    test_size=1_000,
    chunks=1,  # narrow networks are as fast so, and compile in half the time of two
    width=24,
    edge_width=24,
)
_PRESETS: dict[Preset, tuple[QM9Config, TrainConfig]] = {
    "quick": (_QUICK, TrainConfig(epochs=10, batch_size=32, log_every=1)),
    "small": (_QUICK, TrainConfig(epochs=30, batch_size=16, log_every=80)),
    "medium": (
        QM9Config(
            train_size=10_000,
            validation_size=2_000,
            test_size=5_000,
            chunks=2,
            width=24,
            edge_width=24,
        ),
        # The learning rate takes thirteen cuts to its floor, at least six epochs apart.
        TrainConfig(epochs=100, batch_size=16, log_every=625),
    ),
    "paper": (QM9Config(), TrainConfig()),
}

_SYMBOLS = {"a0^3": "a₀³", "a0^2": "a₀²"}
_UNITS = {task: _SYMBOLS.get(unit, unit) for task, unit in zip(TASKS, UNITS, strict=True)}
_FEATURES = (
    "Molecules: elements, atomic numbers and distances are exact; bonds, aromaticity and "
    "hybridisation are guessed from the geometry, where the paper's code asks RDKit."
)


def _open(data: QM9Config, train: TrainConfig) -> "QM9Problem":
    from benchmarks.problems.qm9.problem import QM9Problem

    return QM9Problem(data, train.batch_size, compute_dtype=train.compute_dtype)


QM9 = Dataset(
    name="qm9",
    description=Description(
        title="QM9",
        tasks={"mu": "μ", "alpha": "α", "eps_HOMO": "ε HOMO", "eps_LUMO": "ε LUMO", "R2": "⟨R²⟩"},
        losses={"": "normalised MSE"},
        metric=lambda task, metric: Shown(metric, _UNITS.get(task, "")),
        digits=3,
        printed_table=lambda network: "table3",
        printed_column=lambda task, metric: task,
        examples="molecules",
        quick="a small subset and a narrower network",
        notes=lambda settings: [_FEATURES],
    ),
    setting=lambda preset, network: _PRESETS[preset],
    open=_open,
    presets=get_args(Preset),
)
