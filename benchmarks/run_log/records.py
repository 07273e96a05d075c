"""The records of a run, as its file is read."""

import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any

from benchmarks.errors import UserError
from benchmarks.files import expected, json_text
from benchmarks.files.disk import read_bytes
from benchmarks.files.expected import COUNT, FLAG, NAME, NUMBER, OBJECT, POSITIVE, Kind, is_name
from benchmarks.files.expected import list_of as lists
from benchmarks.files.expected import optional as maybe

Records = list[dict[str, Any]]

LAST_KINDS = ("result", "failed")

_FIGURES = lists(maybe(NUMBER))
_TABLE = maybe(lists(_FIGURES))


def _is_flat(value: Any) -> bool:
    return OBJECT.holds(value) and not any(isinstance(x, list | dict) for x in value.values())


def _is_checksum(value: dict[str, Any]) -> bool:
    return value.get("sha256") is None or is_name(value["sha256"])


ENVIRONMENT = Kind(
    "an object of texts and numbers, the versions another one",
    lambda x: OBJECT.holds(x) and _is_flat(x | {"versions": 0}) and _is_flat(x.get("versions", {})),
)
"""What `machine.environment` has written."""

INITIAL_WEIGHTS = Kind(
    "the text 'from scratch', or an object with the texts file and sha256",
    lambda x: x == "from scratch" or (_is_flat(x) and is_name(x.get("file")) and _is_checksum(x)),
)
"""What `benchmarks.initial_weights` has written."""

_FIELDS: Mapping[str, Mapping[str, Kind]] = {
    "start": {
        "dataset": NAME,
        "network": maybe(NAME),
        "tasks": lists(NAME),
        "metrics": lists(lists(NAME)),
        "higher_is_better": lists(lists(FLAG)),
        "sample_data": FLAG,
        "environment": ENVIRONMENT,
        "initial_weights": maybe(INITIAL_WEIGHTS),
    },
    "epoch": {
        "step": COUNT,
        "losses": _FIGURES,
        "gradient_norms": maybe(_FIGURES),
        "validation": _TABLE,
        "cosine_similarity": _TABLE,
    },
    "result": {
        "validation": _TABLE,
        "test": _TABLE,
        "steps": COUNT,
        "seconds": NUMBER,
        "steps_per_second": POSITIVE,
    },
    "failed": {"step": COUNT},
}
"""The fields that are read, by the kind of the record; others may be anything."""


def read_run(path: pathlib.Path) -> Records:
    """Reads the records of a run, without an incomplete last line; empty if there is no file.

    Raises:
      UserError: if the file cannot be read, or a line is not a record; its number is named.
    """
    *lines, _ = (read_bytes(path) or b"").split(b"\n")
    return [_record(line, f"{path}, line {k}") for k, line in enumerate(lines, start=1)]


def _record(line: bytes, where: str) -> dict[str, Any]:
    record = json_text.parse(line, where)
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise UserError(f'{where}: expected a record with a "kind", found {reprlib.repr(record)}')
    expected.check_fields(record, _FIELDS.get(record["kind"], {}), where)
    return record


def is_complete(records: Records) -> bool:
    """Whether the run has ended, with a result or by failing."""
    return bool(records) and records[-1]["kind"] in LAST_KINDS


def has_result(records: Records) -> bool:
    """Whether the run has ended with a result."""
    return is_complete(records) and records[-1]["kind"] == "result"
