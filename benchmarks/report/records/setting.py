"""Describes the settings of runs in words."""

from collections.abc import Mapping
from typing import Any

from benchmarks.problems import datasets
from benchmarks.problems.dataset import Description

_PRESET_NOTES = {
    "medium": (
        "Medium preset: {what}, trained for as many epochs as the learning rate takes to fall to "
        "its floor."
    ),
    "quick": (
        "Quick preset: {what}, minutes of training. It shows that everything works, not which "
        "method is best: the order can change with longer training."
    ),
    "small": (
        "Small preset: {what}, trained for thousands of steps. That is long enough for the methods "
        "to differ, and far from the paper's training set and epochs."
    ),
}


def title(settings: Mapping[str, Any]) -> str:
    """The data set, the network and the protocol in one line.

    Args:
      settings: content of `config.json`.
    """
    network = data(settings).get("network")
    description = _description(settings)
    said = [description.title, *([description.network(network)] if network else [])]
    return f"{', '.join(said)}, {protocol(settings)}"


def protocol(settings: Mapping[str, Any], steps: int | None = None) -> str:
    """The preset, the length of training, and the number of training examples if it was chosen."""
    epochs = f"{settings.get('train', {}).get('epochs', '?')} epochs"
    if steps is not None:
        epochs += f" ({steps:,} steps)"
    number = data(settings).get("train_size")
    size = f", {number:,} training {_description(settings).examples}" if number else ""
    return f"preset {settings.get('preset', 'unknown')}: {epochs}{size}"


def notes(settings: Mapping[str, Any]) -> list[str]:
    """Notes that readers of the results need."""
    description = _description(settings)
    of_preset = _PRESET_NOTES.get(settings.get("preset", ""), "")
    return [
        *[of_preset.format(what=description.quick)] * bool(of_preset),
        *description.notes(settings),
    ]


def data(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the data and the network."""
    found: Mapping[str, Any] = settings.get("data") or {}
    return found


def _description(settings: Mapping[str, Any]) -> Description:
    return datasets.describe(settings.get("dataset", ""))
