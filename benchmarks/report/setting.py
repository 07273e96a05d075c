"""Describes the settings of runs in words."""

from collections.abc import Mapping
from typing import Any

from benchmarks.report.columns import dataset_title

FEATURES_NOTE = (
    "Molecules: elements, atomic numbers and distances are exact; bonds, aromaticity and "
    "hybridisation are guessed from the geometry, where the paper's code asks RDKit."
)
_PRESET_NOTES = {
    "quick": (
        "Quick preset: {what}, a narrower network and minutes of training. It shows that "
        "everything works, not which method is best: the order can change with longer training."
    ),
    "small": (
        "Small preset: {what} and a narrower network, trained for thousands of steps. That is long "
        "enough for the methods to differ, and far from the paper's training set and epochs."
    ),
}


def title(settings: Mapping[str, Any]) -> str:
    """The data set, the network and the protocol in one line.

    Args:
      settings: content of `config.json`.
    """
    network = data(settings).get("network")
    name = dataset_title(settings.get("dataset", ""))
    said = [name, network] if network else [name]
    return f"{', '.join(said)}, {protocol(settings)}"


def protocol(settings: Mapping[str, Any], steps: int | None = None) -> str:
    """The preset, the length of training, and the number of molecules if not all are used."""
    epochs = f"{settings.get('train', {}).get('epochs', '?')} epochs"
    if steps is not None:
        epochs += f" ({steps:,} steps)"
    number = data(settings).get("train_size")
    size = f", {number:,} training molecules" if number else ""
    return f"preset {settings.get('preset', 'unknown')}: {epochs}{size}"


def notes(settings: Mapping[str, Any]) -> list[str]:
    """Notes that readers of the results need."""
    is_qm9 = settings.get("dataset") == "qm9"
    of_preset = _PRESET_NOTES.get(settings.get("preset", ""), "")
    what = "a small subset" if is_qm9 else "few epochs"
    return [
        *[of_preset.format(what=what)] * bool(of_preset),
        *[FEATURES_NOTE] * is_qm9,
        *_which_epoch(settings),
    ]


def _which_epoch(settings: Mapping[str, Any]) -> list[str]:
    """What the test metrics of NYUv2 and Cityscapes are of."""
    if "validation_size" not in data(settings) or settings.get("dataset") == "qm9":
        return []
    if data(settings)["validation_size"] != 0:
        return [
            "A part of the training images is held out and chooses the epoch that is tested; the "
            "paper trains on all of them."
        ]
    train = settings.get("train", {})
    count = min(train.get("last_epochs", 1), train.get("epochs", 1))
    which = "are the mean of the last {} epochs" if count > 1 else "are of the last epoch"
    return [f"All training images are trained on; the test metrics {which.format(count)}."]


def data(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the data and the network."""
    found: Mapping[str, Any] = settings.get("data") or settings.get("qm9") or {}
    return found
