"""What the ResNets of image networks begin with: files of ImageNet weights, or random numbers.

Results depend on it more than on the method, so it is never left to chance: the paper's preset
refuses to begin from random numbers unless it is told to, and every run records what it had.
"""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

from benchmarks.errors import UserError
from benchmarks.problems.dense import settings as dense
from benchmarks.problems.image_settings import ImageConfig
from benchmarks.settings import Comparison

RESNETS: Mapping[str, str] = dense.RESNETS | {"resnet18": "resnet18"}
"""The ResNet in each network that has one; the others always begin from random numbers."""

FROM_SCRATCH = "from scratch"

_SUFFIXES = (".safetensors", ".npz")


def in_folder(folder: pathlib.Path, network: str) -> pathlib.Path | None:
    """The file of a folder with the weights of a network's ResNet; None if it has no ResNet.

    Raises:
      UserError: if there is no such file, or more than one.
    """
    if network not in RESNETS:
        return None
    names = [RESNETS[network] + suffix for suffix in _SUFFIXES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) != 1:
        raise UserError(
            f"--weights: expected a folder with one of {' and '.join(names)} for {network}, found "
            f"{'both' if found else 'neither'} in {folder}"
        )
    return found[0]


def check(config: Comparison) -> None:
    """Checks that the paper's preset does not begin from scratch by oversight.

    Raises:
      UserError: if it does, or for options that do not go together.
    """
    data = config.data
    if not isinstance(data, ImageConfig):
        return
    if data.from_scratch and data.weights is not None:
        raise UserError(f"--from-scratch: expected no --weights with it, found {data.weights}")
    needed = config.preset == "paper" and data.network in RESNETS
    if needed and data.weights is None and not data.from_scratch:
        raise UserError(
            f"--weights: expected ImageNet weights of the {RESNETS[data.network]} in "
            f"{data.network}, as the paper begins with them, found none; --from-scratch does "
            "without, and results say so"
        )


def provenance(network: str, weights: pathlib.Path | None) -> Any:
    """What a run's first record says: the file's name and checksum, or that there was none.

    It is None for networks without a ResNet.

    Raises:
      UserError: if the file cannot be read.
    """
    if network not in RESNETS:
        return None
    if weights is None:
        return FROM_SCRATCH
    try:
        with weights.open("rb") as file:
            return {"file": weights.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise UserError(f"--weights: cannot read {weights} ({error.strerror})") from error


def text(recorded: Any) -> str:
    """The provenance in words, with the first digits of the checksum; empty for None."""
    if recorded is None:
        return ""
    if recorded == FROM_SCRATCH:
        return "ResNet from scratch, without pretrained weights"
    checksum = recorded.get("sha256")
    known = f"sha256 {checksum[:12]}" if checksum else "checksum not recorded"
    return f"pretrained weights {recorded['file']} ({known})"


def of_settings(settings: Mapping[str, Any]) -> Any:
    """The provenance as far as a folder's settings tell it, for runs that did not record it."""
    data = settings.get("data") or {}
    if data.get("network") not in RESNETS or "weights" not in data:
        return None
    weights = data["weights"]
    return {"file": pathlib.Path(weights).name} if weights else FROM_SCRATCH
