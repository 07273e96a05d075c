"""Files with some test images, their targets and the predictions of a trained network.

The file `{method}-seed{seed}.examples.npz` of a run contains the arrays `image`, or `image.<task>`
if every task has its own images, `target.<task>`, `prediction.<task>`, and optionally
`class_names`. The report shows them as pictures.
"""

import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.errors import UserError

Arrays = Mapping[str, ArrayLike]


class Examples(NamedTuple):
    """The content of a file of examples."""

    image: NDArray[Any] | dict[str, NDArray[Any]]
    """[N, H, W, 3] in [0, 1]; a dict by task if every task has its own images"""
    targets: dict[str, NDArray[Any]]
    """task -> targets of the images"""
    predictions: dict[str, NDArray[Any]]
    """task -> predictions of the network"""
    class_names: tuple[str, ...] | None
    """names of the classes, if there are any"""


def path(folder: pathlib.Path, method: str, seed: int) -> pathlib.Path:
    """The file of examples of a run."""
    return folder / f"{method}-seed{seed}.examples.npz"


def write(
    path: pathlib.Path,
    image: ArrayLike | Arrays,
    targets: Arrays,
    predictions: Arrays,
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a file of examples; after an error, no incomplete file is left.

    Args:
      path: path of the file, see the function `path`.
      image: [N, H, W, 3] in [0, 1] without any normalisation; if every task has its own images, a
        dict of these by task. They are stored with 8 bits per colour.
      targets: targets by task, see `benchmarks.report.pictures.write`.
      predictions: predictions for the same tasks.
      class_names: names of the classes, in the order of their labels.

    Raises:
      ValueError: if the tasks of targets, predictions and images are not the same.
      UserError: if the file cannot be written.
    """
    tasks = [set(targets), set(predictions)]
    if isinstance(image, Mapping):
        tasks.append(set(image))
    if any(found != tasks[0] for found in tasks):
        raise ValueError(f"expected the same tasks everywhere, found {list(map(sorted, tasks))}")
    images = (
        {f"image.{task}": _bytes(x) for task, x in image.items()}
        if isinstance(image, Mapping)
        else {"image": _bytes(image)}
    )
    arrays = images | {f"target.{task}": np.asarray(x) for task, x in targets.items()}
    arrays |= {f"prediction.{task}": np.asarray(x) for task, x in predictions.items()}
    if class_names is not None:
        arrays["class_names"] = np.array(class_names, np.str_)
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, **arrays)
        pathlib.Path(name).chmod(0o644)
        pathlib.Path(name).replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot write ({error.strerror or error})") from error


def read(path: pathlib.Path) -> Examples:
    """Reads a file of examples.

    Raises:
      UserError: if the file is missing, damaged or of another kind.
    """
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # the kind of error depends on where the file is damaged
        raise UserError(f"{path}: expected an .npz file of examples ({error})") from error
    targets, predictions, images = (
        {name.partition(".")[2]: x for name, x in arrays.items() if name.startswith(f"{kind}.")}
        for kind in ("target", "prediction", "image")
    )
    if not targets or set(targets) != set(predictions) or not (images or "image" in arrays):
        raise UserError(
            f"{path}: expected image, target.<task> and prediction.<task>, "
            f"found {', '.join(sorted(arrays)) or 'nothing'}"
        )
    names = arrays.get("class_names")
    return Examples(
        {task: _shares(x) for task, x in images.items()} if images else _shares(arrays["image"]),
        targets,
        predictions,
        None if names is None else tuple(map(str, names)),
    )


def _bytes(image: ArrayLike) -> NDArray[np.uint8]:
    return np.round(255 * np.clip(np.asarray(image, float), 0, 1)).astype(np.uint8)


def _shares(image: NDArray[Any]) -> NDArray[Any]:
    return image / 255 if image.dtype == np.uint8 else image
