"""Files with some test images, their targets and the predictions of a trained network.

The file `{method}-seed{seed}.examples.npz` of a run contains the arrays `image`, or `image.<task>`
if every task has its own images, `target.<task>`, `prediction.<task>`, and optionally
`class_names`. The report shows them as pictures.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.errors import UserError
from benchmarks.files.arrays import read_npz, write_npz

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
      targets: targets by task, see `benchmarks.report.figures.pictures.dense`.
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
    write_npz(path, arrays)


def read(path: pathlib.Path) -> Examples:
    """Reads a file of examples.

    Raises:
      UserError: if the file is missing, damaged or of another kind.
    """
    arrays = read_npz(path)
    targets, predictions, images = (
        {name.partition(".")[2]: x for name, x in arrays.items() if name.startswith(f"{kind}.")}
        for kind in ("target", "prediction", "image")
    )
    if not targets or set(targets) != set(predictions) or not (images or "image" in arrays):
        raise UserError(
            f"{path}: expected image, target.<task> and prediction.<task>, "
            f"found {', '.join(sorted(arrays)) or 'nothing'}"
        )
    if images and set(images) != set(targets):
        raise UserError(f"{path}: expected images of {sorted(targets)}, found {sorted(images)}")
    for task, target in targets.items():
        image = images[task] if images else arrays["image"]
        try:
            _check(task, image, target, predictions[task], per_pixel=not images)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
    names = arrays.get("class_names")
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise UserError(f"{path}: class_names: expected texts, found {names.dtype} {names.shape}")
    return Examples(
        {task: _shares(x) for task, x in images.items()} if images else _shares(arrays["image"]),
        targets,
        predictions,
        None if names is None else tuple(map(str, names)),
    )


_MOST_CLASSES = 1000
_MOST_IMAGES = 100
_LONGEST_SHAPE = 8
"""How much longer than wide an image can be in a figure."""

_VALUES = {"segmentation": ((),), "depth": ((), (1,)), "normals": ((3,),)}
"""The possible shapes of the value of a pixel; where tasks have their own images, an image has one
class."""


def _check(
    task: str,
    image: NDArray[Any],
    target: NDArray[Any],
    prediction: NDArray[Any],
    *,
    per_pixel: bool,
) -> None:
    """Checks that the arrays of a task can be drawn beside each other.

    Raises:
      ValueError: otherwise.
    """
    if any(array.dtype.kind not in "uif" for array in (image, target, prediction)):
        raise ValueError(f"{task}: expected arrays of numbers")
    if image.ndim != 4 or image.shape[3] != 3 or not 1 <= len(image) <= _MOST_IMAGES:
        raise ValueError(f"expected images [N, H, W, 3], found {image.shape}")
    if not 0 < max(image.shape[1:3]) <= _LONGEST_SHAPE * min(image.shape[1:3]):
        raise ValueError(f"expected images that are not so narrow, found {image.shape}")
    if per_pixel and task not in _VALUES:
        raise ValueError(f"expected {', '.join(_VALUES)}, found {task!r}")
    shapes = _VALUES[task] if per_pixel else ((),)
    axes, is_class = 3 if per_pixel else 1, shapes == ((),)
    for what, array in (("target", target), ("prediction", prediction)):
        shape = array.shape[axes:]
        has_logits = is_class and what == "prediction" and len(shape) == 1 and shape[0] > 0
        if array.shape[:axes] != image.shape[:axes] or not (shape in shapes or has_logits):
            raise ValueError(
                f"{what}.{task}: expected {image.shape[:axes]} followed by one of {shapes}, "
                f"found {array.shape}"
            )
        largest = shape[0] if has_logits else np.abs(array.astype(float)).max()
        if is_class and not largest <= _MOST_CLASSES:
            raise ValueError(f"{what}.{task}: expected at most {_MOST_CLASSES:,} classes")


def _bytes(image: ArrayLike) -> NDArray[np.uint8]:
    return np.round(255 * np.clip(np.asarray(image, float), 0, 1)).astype(np.uint8)


def _shares(image: NDArray[Any]) -> NDArray[Any]:
    return image / 255 if image.dtype == np.uint8 else image
