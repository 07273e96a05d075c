"""Folders of results: which files are runs, and the settings that all of them share."""

import json
import os
import pathlib
import re
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks import methods
from benchmarks.errors import UserError
from benchmarks.files import expected, json_text
from benchmarks.files.disk import make_folder, write_file
from benchmarks.files.expected import COUNT, NAME, OBJECT, optional
from benchmarks.run_log.records import Records, is_complete, read_run

_RUN = re.compile(r"(?P<method>.+)-seed(?P<seed>0|[1-9][0-9]{0,8})\.jsonl", re.ASCII)
_SETTINGS = {"dataset": NAME, "preset": NAME, "data": OBJECT, "train": OBJECT}
_OF_DATA = {"network": optional(NAME), "train_size": optional(COUNT)}


class Folder(NamedTuple):
    """The runs of a folder."""

    runs: Mapping[str, Mapping[int, Records]]
    """those that have ended: method -> seed -> records"""
    unfinished: list[str]
    """the names of those that have begun but not ended"""
    left_out: list[str]
    """a line on each file that is named like a run, and is none"""


def run_path(folder: pathlib.Path, method: str, seed: int) -> pathlib.Path:
    """Where a run's records are: under a former name of the method if they were begun there."""
    paths = [folder / f"{name}-seed{seed}.jsonl" for name in methods.recorded_names(method)]
    return next((path for path in paths if path.exists()), paths[0])


def run_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder that are named like runs, with copies such as `ew-seed0 (1).jsonl`."""
    # `Path.glob` raises an error for a name that is too long.
    return sorted(folder.glob("*-seed*.jsonl")) if os.path.isdir(folder) else []


def read_folder(folder: pathlib.Path) -> Folder:
    """Reads all runs of a folder; a file that is not a run does not keep the others from it."""
    runs: dict[str, dict[int, Records]] = {}
    found = Folder(runs, [], [])
    for path in run_files(folder):
        try:
            method, seed = _run_of(path)
            records = read_run(path)
        except UserError as error:
            # Reports are published, and the folder is of this machine alone.
            found.left_out.append(str(error).removeprefix(f"{folder}{os.sep}"))
            continue
        if is_complete(records):
            runs.setdefault(method, {})[seed] = records
        else:
            found.unfinished.append(path.stem)
    return found


def _run_of(path: pathlib.Path) -> tuple[str, int]:
    """The method, by its present name, and the seed of a run.

    Raises:
      UserError: if the file does not have the name of a run.
    """
    match = _RUN.fullmatch(path.name)
    if match is None or not expected.is_name(match["method"]):
        raise UserError(
            f"{path}: expected the name {{method}}-seed{{seed}}.jsonl, found another one"
        )
    method, seed = methods.current_name(match["method"]), int(match["seed"])
    try:
        methods.parse(method)
    except UserError as error:
        raise UserError(f"{path}: expected the name of a method ({error})") from error
    if (other := run_path(path.parent, method, seed)) != path:
        raise UserError(f"{path}: expected one file of a run, found {other.name}, too")
    return method, seed


def read_settings(folder: pathlib.Path) -> dict[str, Any] | None:
    """Reads the settings that the runs of a folder share; None if there is no `config.json`.

    Raises:
      UserError: if the file is damaged.
    """
    path = folder / "config.json"
    found = json_text.read_object(path)
    if found is None:
        return None
    expected.check_fields(found, _SETTINGS, str(path))
    for name, kinds in (("data", _OF_DATA), ("train", {"epochs": COUNT})):
        expected.check_fields(found.get(name, {}), kinds, f"{path}: {name}")
    return found


def check_settings(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Checks that the runs of a folder, if there are any, have the same settings.

    Raises:
      UserError: if they have others.
    """
    found = read_settings(folder)
    if found not in (None, settings):
        raise UserError(
            f"{folder} holds results of other settings ({_difference(found, settings)}); "
            "choose another folder with --out, or remove this one"
        )


def open_folder(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Creates a folder of results, or checks that an existing one has the same settings."""
    check_settings(folder, settings)
    make_folder(folder)
    path = folder / "config.json"
    if not path.exists():
        write_file(path, json.dumps(settings, indent=2) + "\n")


def _difference(found: Any, here: Any, where: str = "") -> str:
    """Describes the first setting that differs."""
    if isinstance(found, dict) and isinstance(here, dict):
        for key in sorted(found.keys() | here.keys()):
            if found.get(key) != here.get(key):
                return _difference(found.get(key), here.get(key), f"{where}.{key}".strip("."))
    return f"{where} is {reprlib.repr(found)} there and {reprlib.repr(here)} here"
