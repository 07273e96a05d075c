"""`python -m benchmarks make-sample`: renders small data sets in the file formats of the real ones.

They are for trying out the whole pipeline, from the files to the table of results; they do not
replace the real data.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from benchmarks.config import MakeSample
from benchmarks.data import mark, specs
from benchmarks.data.new_folder import new_folder
from benchmarks.data.sample import domains, objects
from benchmarks.data.sample.rooms import room
from benchmarks.data.sample.streets import street
from benchmarks.errors import UserError
from benchmarks.progress_bar import counting

Scene = Callable[[np.random.Generator, int, int], dict[str, NDArray[Any]]]
_SCENES: dict[str, Scene] = {"nyuv2": room, "cityscapes": street}
_JPEG_QUALITY = 92
_SMALLEST = 8


def make_sample(config: MakeSample, console: Console) -> None:
    """Renders sample data into a new folder and marks the folder as sample data."""
    name = config.dataset
    spec: Any = specs.DENSE[name] if name in specs.DENSE else specs.OFFICE[name]
    size = (config.height or spec.size[0], config.width or spec.size[1])
    if min(size) < _SMALLEST or config.train < 1 or config.test < 1:
        raise UserError(
            f"--train and --test must be at least 1, --height and --width at least {_SMALLEST}"
        )
    each = config.train + config.test
    if name in specs.OFFICE and each < spec.num_classes:
        raise UserError(
            f"--train {config.train} and --test {config.test} make {each} images of each domain, "
            f"expected at least one for each of the {spec.num_classes} classes"
        )
    total = each if name in specs.DENSE else each * len(spec.counts)
    with (
        new_folder(config.out) as temporary,
        counting(console, f"rendering {spec.title}", total) as tick,
    ):
        root = temporary / "done"
        root.mkdir()
        if name in specs.DENSE:
            _write_dense(config, size, root, tick)
        else:
            _write_office(config, size, root, tick)
        mark.write(root, mark.SampleMark(name, size, config.seed))
    console.print(
        f"sample data in the form of {spec.title} written to {config.out}; next: "
        f"python -m benchmarks prepare {name} --source {config.out}",
        soft_wrap=True,
    )


def _write_dense(
    config: MakeSample, size: tuple[int, int], root: pathlib.Path, tick: Callable[[], None]
) -> None:
    scene = _SCENES[config.dataset]
    counts = {"train": config.train, "test": config.test}
    for part, (split, folder) in enumerate(specs.SOURCE_FOLDERS.items()):
        for i in range(counts[split]):
            # Each image has its own seed, so that more images do not change the first ones.
            fields = scene(np.random.default_rng([config.seed, part, i]), *size)
            for field, array in fields.items():
                path = root / folder / field / f"{i}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, array.astype(np.float32))
            tick()


def _write_office(
    config: MakeSample, size: tuple[int, int], root: pathlib.Path, tick: Callable[[], None]
) -> None:
    spec = specs.OFFICE[config.dataset]
    names = objects.class_names(spec.num_classes)
    for part, domain in enumerate(spec.counts):
        for i in range(config.train + config.test):
            name = names[i % len(names)]
            rng = np.random.default_rng([config.seed, part, i])
            image = domains.picture_of(domain, name, rng, *size)
            # The folder in the official archive is "Real World", not "Real_World".
            folder = root / domain.replace("_", " ") / spec.images_folder / name
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
            path = folder / f"frame_{i // len(names) + 1:04d}.jpg"
            Image.fromarray(pixels).save(path, quality=_JPEG_QUALITY)
            tick()
