"""Results on disk: a file of JSON lines for each run, and the settings that all runs share.

A folder of results contains `config.json` and a file `{method}-seed{seed}.jsonl` for each run.
Every line is a record with a "kind": "start" (environment), "step" (training losses), "epoch"
(validation), and at the end "result" or "failed". Reports are made from these files alone.

Several processes may use the same folder. The process that writes the file of a run locks it
(`flock`, which the file system must support); the lock ends with the process, even after a crash.
"""

import contextlib
import fcntl
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from benchmarks import methods
from benchmarks.errors import UserError

LAST_KINDS = ("result", "failed")


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


def run_path(folder: pathlib.Path, method: str, seed: int) -> pathlib.Path:
    """Where a run's records are: under a former name of the method if they were begun there."""
    paths = [folder / f"{name}-seed{seed}.jsonl" for name in methods.recorded_names(method)]
    return next((path for path in paths if path.exists()), paths[0])


def read_run(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the records of a run, without an incomplete last line; empty if there is no file."""
    if not path.exists():
        return []
    records = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                break
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}: line {len(records) + 1} is not JSON ({error})") from error
    return records


def is_complete(records: list[dict[str, Any]]) -> bool:
    """Whether the run has ended, with a result or by failing."""
    return bool(records) and records[-1]["kind"] in LAST_KINDS


def has_result(records: list[dict[str, Any]]) -> bool:
    """Whether the run has ended with a result."""
    return is_complete(records) and records[-1]["kind"] == "result"


def read_folder(folder: pathlib.Path) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Reads all runs of a folder that have ended: method -> seed -> records."""
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for path in sorted(folder.glob("*-seed*.jsonl")):
        method, _, seed = path.stem.rpartition("-seed")
        records = read_run(path)
        if is_complete(records):
            runs.setdefault(methods.current_name(method), {})[int(seed)] = records
    return runs


def open_folder(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Creates a folder of results, or checks that an existing one has the same settings."""
    make_folder(folder)
    path = folder / "config.json"
    with disk_errors(path):
        if path.exists():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}: not JSON ({error})") from error
            if found != settings:
                raise UserError(
                    f"{folder} holds results of other settings ({_difference(found, settings)}); "
                    "choose another folder with --out, or remove this one"
                )
            return
        write_file(path, json.dumps(settings, indent=2) + "\n")


def make_folder(folder: pathlib.Path) -> None:
    """Creates a folder if it does not exist."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_file(path: pathlib.Path, text: str) -> None:
    """Writes a text file; after an error, no incomplete file is left."""
    with disk_errors(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        pathlib.Path(name).chmod(0o644)
        pathlib.Path(name).replace(path)


def environment() -> dict[str, Any]:
    """The software and hardware that results may depend on."""
    packages = ("dbmtl_jax", "flax", "jax", "jaxlib", "numpy", "optax")
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "python": platform.python_version(),
        "versions": versions,
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "cpu_count": os.cpu_count(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    here = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None


@contextlib.contextmanager
def disk_errors(path: pathlib.Path) -> Iterator[None]:
    """Turns errors of the operating system, such as a full disk, into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write ({error.strerror or error})") from error


def _difference(found: Any, expected: Any, where: str = "") -> str:
    """Describes the first setting that differs."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            if found.get(key) != expected.get(key):
                return _difference(found.get(key), expected.get(key), f"{where}.{key}".strip("."))
    return f"{where} is {found!r} there and {expected!r} here"


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
