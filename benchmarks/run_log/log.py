"""The file of a run while it is written: one process at a time appends records.

The process that writes the file of a run locks it (`flock`, which the file system must support);
the lock ends with the process, even after a crash.
"""

import fcntl
import json
import math
import os
import pathlib
import zlib
from typing import Any, NamedTuple, Self

import numpy as np

from benchmarks.files.disk import disk_errors


class Mark(NamedTuple):
    """A position in the file of a run, with a checksum of everything before it."""

    size: int = 0
    """position in bytes"""
    checksum: int = 0
    """CRC-32 of the bytes before the position"""


class HeldError(Exception):
    """Another process holds the lock of the file of a run."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(f"{path} is held by another process")
        self.path = path


class RunLog:
    """Appends records to the file of a run; `write` passes each to the operating system at once.

    As a context manager, it holds the lock of the file.

    Raises:
      HeldError: if another process holds the lock.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        with disk_errors(self.path):
            # Unbuffered, so that after an error no data are left that `close` would write again.
            self._file = self.path.open("a+b", buffering=0)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._file.close()
                raise HeldError(self.path) from error
            self.mark = self._measure()
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Appends a record; arrays are written as lists, NaN and infinity as null."""
        line = (json.dumps({"kind": kind} | _plain(fields)) + "\n").encode()
        with disk_errors(self.path):
            rest = line
            while rest:
                rest = rest[self._file.write(rest) :]
        self.mark = Mark(self.mark.size + len(line), zlib.crc32(line, self.mark.checksum))

    def begins_with(self, mark: Mark) -> bool:
        """Whether the file still begins with the content that it had when `mark` was taken."""
        with disk_errors(self.path):
            return self._measure(mark.size) == mark

    def rewind(self, mark: Mark) -> None:
        """Removes everything after `mark` from the file."""
        with disk_errors(self.path):
            self._file.truncate(mark.size)
        self.mark = mark

    def sync(self) -> None:
        """Waits until all records are on the disk (`fsync`)."""
        with disk_errors(self.path):
            os.fsync(self._file.fileno())

    def _measure(self, size: int = -1) -> Mark:
        self._file.seek(0)
        content = self._file.read(size)
        return Mark(len(content), zlib.crc32(content))


class MutedLog(RunLog):
    """A log that writes nothing, for processes other than process 0, which writes the records."""

    def __init__(self) -> None:
        super().__init__(pathlib.Path(os.devnull))
        self.mark = Mark()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def write(self, kind: str, **fields: Any) -> None:
        """Does nothing."""

    def begins_with(self, mark: Mark) -> bool:
        """Returns True; only the answer of process 0 counts."""
        return True

    def rewind(self, mark: Mark) -> None:
        """Does nothing."""

    def sync(self) -> None:
        """Does nothing."""


def wait(path: pathlib.Path) -> None:
    """Waits until no process holds the lock of the file of a run."""
    with disk_errors(path), path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def is_held(path: pathlib.Path) -> bool:
    """Whether a process holds the lock of the file of a run."""
    if not path.exists():
        return False
    try:
        with RunLog(path):
            return False
    except HeldError:
        return True


def _plain(value: Any) -> Any:
    """Converts arrays and NumPy scalars to plain JSON values."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        array = np.asarray(value)
        if array.dtype == np.float32:  # avoids digits beyond the precision of float32
            array = array.astype(str).astype(float)
        return _plain(array.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
