"""Files as bytes and text, and errors of the disk as one line."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

from benchmarks.errors import UserError


@contextlib.contextmanager
def disk_errors(path: pathlib.Path) -> Iterator[None]:
    """Turns errors of the operating system, such as a full disk, into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write ({error.strerror or error})") from error


def make_folder(folder: pathlib.Path) -> None:
    """Creates a folder if it does not exist."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_file(path: pathlib.Path, text: str) -> None:
    """Writes a text file; after an error, no incomplete file is left."""
    write_with(path, lambda file: file.write(text.encode()))


def write_with(path: pathlib.Path, write: Callable[[IO[bytes]], object]) -> None:
    """Has a function write a file, which takes its name when it is complete."""
    with disk_errors(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        pathlib.Path(name).chmod(0o644)
        pathlib.Path(name).replace(path)


def read_bytes(path: pathlib.Path) -> bytes | None:
    """The content of a file; None if there is none of this name.

    Raises:
      UserError: if it is no plain file, or cannot be read.
    """
    # Not `Path.is_file`, which raises an error for a name that is too long.
    if not os.path.isfile(path):
        if os.path.lexists(path):
            found = "a folder" if os.path.isdir(path) else "something else"
            raise UserError(f"{path}: expected a file, found {found}")
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read ({error.strerror or error})") from error


def in_a_line(error: BaseException) -> str:
    """The message of an error of another library as part of a line; its kind if it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__
