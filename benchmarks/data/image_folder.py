"""The official folders of Office-31 and Office-Home: `{domain}/[images/]{class}/*.jpg`."""

import pathlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Resampling

from benchmarks.data import mark, specs
from benchmarks.errors import UserError
from benchmarks.files.images import opened

_SUFFIXES = (".jpg", ".jpeg", ".png")


class OfficeFolder(NamedTuple):
    """A checked folder of images, in which no domain or class is missing."""

    name: str
    """name of the data set"""
    size: tuple[int, int]
    """height and width to which images are resized"""
    is_sample: bool
    """whether the images are rendered sample data"""
    root: pathlib.Path
    classes: list[str]
    """names of the classes in alphabetical order, which is the order of the labels"""
    files: dict[str, list[pathlib.Path]]
    """domain -> image files, ordered by class and name"""

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each domain."""
        return {domain: len(files) for domain, files in self.files.items()}

    def label(self, path: pathlib.Path) -> int:
        """The label of an image, given by the folder that it is in."""
        return self.classes.index(path.parent.name)

    def relative(self, path: pathlib.Path) -> str:
        """The path of an image relative to the root, as list files name it."""
        return path.relative_to(self.root).as_posix()

    def read(self, path: pathlib.Path) -> NDArray[np.uint8]:
        """Reads an image and resizes it to [height, width, 3] without keeping its aspect ratio."""
        height, width = self.size
        with opened(path) as image:
            return np.asarray(image.convert("RGB").resize((width, height), Resampling.BILINEAR))


def check(root: pathlib.Path, name: str) -> OfficeFolder:
    """Finds all images and checks that each domain has the same classes.

    Only the headers of the images are read.
    """
    spec = specs.OFFICE[name]
    found = mark.read(root, name)
    classes: dict[str, set[str]] = {}
    files = {}
    for domain in spec.counts:
        folder = _domain_folder(root, domain, spec)
        classes[domain] = {p.name for p in folder.iterdir() if p.is_dir()}
        images = (p for p in folder.glob("*/*") if p.suffix.lower() in _SUFFIXES)
        files[domain] = sorted(images, key=lambda p: (p.parent.name, p.name))
        if not files[domain]:
            raise UserError(f"no images in {folder}: expected {_expected(spec)}")
        if len(classes[domain]) != spec.num_classes:
            raise UserError(
                f"{folder}: {len(classes[domain])} folders of classes, expected {spec.num_classes}"
            )
    first = next(iter(spec.counts))
    for domain, names in classes.items():
        if odd := sorted(names ^ classes[first]):
            raise UserError(
                f"class {odd[0]} is in only one of {first} and {domain} in {root}, expected the "
                "same classes in all domains"
            )
    for paths in files.values():
        for path in paths:
            with opened(path):
                pass
    size = found.size if found else spec.size
    return OfficeFolder(name, size, found is not None, root, sorted(classes[first]), files)


def _domain_folder(root: pathlib.Path, domain: str, spec: specs.Office) -> pathlib.Path:
    # The folder in the official archive is "Real World"; list files say "Real_World".
    for name in (domain, domain.replace("_", " ")):
        if (root / name / spec.images_folder).is_dir():
            return root / name / spec.images_folder
    missing = root / domain / spec.images_folder
    raise UserError(f"{missing} is not there: expected {_expected(spec)} in {root}, {spec.where}")


def _expected(spec: specs.Office) -> str:
    middle = f"{spec.images_folder}/" if spec.images_folder else ""
    return f"{{{','.join(spec.counts)}}}/{middle}CLASS/*.jpg with {spec.num_classes} classes"
