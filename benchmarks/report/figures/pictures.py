"""Pictures of the inputs, targets and predictions of networks."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, hsv_to_rgb, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

Arrays = Mapping[str, ArrayLike]
Image = NDArray[np.floating[Any]]

_UNKNOWN = np.array(to_rgb("0.6"))
"""The colour of pixels whose class, depth or normal is unknown."""
_COLOURS = (
    "#e6194b", "#f58231", "#fff3b0", "#9a6324", "#3cb44b", "#4363d8", "#911eb4", "#f032e6",
    "#800000", "#ffe119", "#000075", "#a9d8ff", "#42d4f4", "#bfef45", "#fabed4", "#469990",
    "#dcbeff", "#808000", "#aaffc3", "#ffd8b1",
)  # fmt: skip
"""Colours of the classes, distinct from each other and from grey; pale for the large surfaces of
NYUv2."""


def head(figure: Figure, note: str) -> Figure:
    """Adds a text above the pictures."""
    lines = textwrap.wrap(note, int(11 * figure.get_size_inches()[0]))
    figure.suptitle("\n".join(lines), fontsize=10)
    return figure


def dense(
    image: ArrayLike,
    targets: Arrays,
    predictions: Arrays,
    class_names: Sequence[str] | None = None,
    depth_label: str = "depth (m)",
) -> Figure:
    """Draws a row per image: the input, then the truth and the prediction of every task.

    Args:
      image: [N, H, W, 3] in [0, 1].
      targets: any of "segmentation" [N, H, W], negative where unknown; "depth" [N, H, W, 1] or
        [N, H, W], 0 where unknown; "normals" [N, H, W, 3], zero where unknown.
      predictions: predictions of the same tasks: segmentation as classes or as logits
        [N, H, W, C], normals of any length.
      class_names: names of the classes in the order of their labels; None: numbers.
      depth_label: label of the depth, with its unit.
    """
    images = np.asarray(image, float)
    shown: list[tuple[str, Any]] = [("input", np.clip(images, 0, 1))]
    norm, classes = None, 0
    for task, target in targets.items():
        pair = [np.asarray(target), np.asarray(predictions[task])]
        if task == "segmentation":
            pair[1] = _classes(pair[1], pair[0].ndim)
            classes = max(len(class_names or ()), *(int(p.max(initial=0)) + 1 for p in pair))
            pair = [class_colours(p, classes) for p in pair]
        elif task == "depth":
            pair = [p[..., 0] if p.ndim == 4 else p for p in pair]
            norm = _depth_range(pair[0])
            # Predictions are also shown where the truth is unknown.
            pair = [
                _depth_colours(pair[0], pair[0] != 0, norm),
                _depth_colours(pair[1], np.isfinite(pair[1]), norm),
            ]
        elif task == "normals":
            pair = [normal_colours(p) for p in pair]
        else:
            raise ValueError(f"targets: expected segmentation, depth or normals, found {task!r}")
        shown += [(f"{task}: truth", pair[0]), (f"{task}: prediction", pair[1])]

    height, width = images.shape[1:3]
    cell = 2.5 if height < width else 2.0
    size = (cell * len(shown), cell * height / width * len(images) + 1.1)
    figure = Figure(figsize=size, layout="compressed")
    axes = figure.subplots(len(images), len(shown), squeeze=False)
    for column, (title, pictures) in enumerate(shown):
        axes[0, column].set_title(title, fontsize=9)
        for row, picture in enumerate(pictures):
            axes[row, column].imshow(picture, interpolation="nearest")
            axes[row, column].axis("off")
    if norm is not None:
        depth = ScalarMappable(norm, _DEPTH_MAP)
        # Below all pictures, so that all have the same size.
        bar = figure.colorbar(
            depth, ax=axes, location="bottom", extend="both", shrink=0.4, pad=0.02, aspect=40
        )
        bar.set_label(depth_label, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    figure.legend(
        handles=_legend(classes, class_names),
        loc="outside lower center",
        ncols=min(classes + 1, 14 if len(shown) > 5 else 8),
        fontsize=8,
        frameon=False,
        handlelength=1.2,
        handleheight=1.2,
        columnspacing=1.2,
    )
    return figure


def office(
    images: Arrays,
    targets: Arrays,
    predictions: Arrays,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draws a row per task: its images, with the true and the predicted class below each.

    Args:
      images: task -> [N, H, W, 3] in [0, 1].
      targets: task -> [N].
      predictions: task -> [N] classes or [N, C] logits.
      class_names: as in `dense`.
    """
    most = max(len(np.asarray(image)) for image in images.values())
    figure = Figure(figsize=(1.75 * most + 0.4, 2.25 * len(images) + 0.4), layout="constrained")
    axes = figure.subplots(len(images), most, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for row, (task, pictures) in zip(axes, images.items(), strict=True):
        truths = np.asarray(targets[task])
        guesses = _classes(np.asarray(predictions[task]), 1)
        row[0].set_ylabel(task, fontsize=10)
        for axis, picture, truth, guess in zip(
            row, np.asarray(pictures), truths, guesses, strict=False
        ):
            axis.imshow(np.clip(picture, 0, 1))
            right = truth == guess
            names = [_name(int(c), class_names).replace("_", " ") for c in (truth, guess)]
            text = f"✓ {names[0]}" if right else f"✗ {names[1]}\n(true: {names[0]})"
            axis.set_xlabel(text, fontsize=7.5, color="#006d4f" if right else "#b3400b")
    return figure


def class_colours(classes: ArrayLike, count: int) -> Image:
    """Converts classes [...] to colours [..., 3]; grey where negative."""
    classes = np.asarray(classes).astype(int)
    return np.where(classes[..., None] < 0, _UNKNOWN, _palette(count)[np.maximum(classes, 0)])


def normal_colours(normals: ArrayLike) -> Image:
    """Converts normals [..., 3] to colours (n + 1) / 2 of their directions n; grey where zero."""
    normals = np.asarray(normals, float)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    known = np.isfinite(length) & (length > 0)
    return np.where(known, (normals / np.where(known, length, 1) + 1) / 2, _UNKNOWN)


_DEPTH_MAP = "viridis"


def _depth_colours(depth: NDArray[Any], known: NDArray[np.bool_], norm: Normalize) -> Image:
    mappable = ScalarMappable(norm, _DEPTH_MAP)
    colours = mappable.cmap(norm(np.where(known, depth, 0)))[..., :3]
    return np.where(known[..., None], colours, _UNKNOWN)


def _depth_range(depth: NDArray[Any]) -> Normalize:
    """The colour range for almost all true depths, the same for all images."""
    known = depth[(depth != 0) & np.isfinite(depth)]
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    return Normalize(float(low), float(max(high, low + 1e-6)), clip=True)


def _classes(values: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Converts logits to classes; arrays with `ndim` axes are already classes."""
    return values.argmax(-1) if values.ndim > ndim else values


def _palette(count: int) -> Image:
    """The colours of the classes, [count, 3]; further ones have hues around the colour wheel."""
    more = np.arange(max(0, count - len(_COLOURS)))
    around = [
        hsv_to_rgb(((0.05 + 0.618034 * i) % 1, 0.45 + 0.2 * (i % 3), 0.95 - 0.2 * (i % 2)))
        for i in more
    ]
    return np.array([*map(to_rgb, _COLOURS), *around])[: max(count, 1)]


def _legend(count: int, class_names: Sequence[str] | None) -> list[Patch]:
    named = [
        Patch(color=colour, label=_name(c, class_names))
        for c, colour in enumerate(_palette(count)[:count].tolist())
    ]
    return [*named, Patch(color=tuple(_UNKNOWN), label="not known")]


def _name(number: int, class_names: Sequence[str] | None) -> str:
    if class_names is None or not 0 <= number < len(class_names):
        return f"class {number}"
    return class_names[number]
