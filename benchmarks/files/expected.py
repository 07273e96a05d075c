"""What the fields of records are expected to be, in words and as a check.

A library for such checks would also have to be on the bare machines of `benchmarks.kit`; for the
few kinds of values that records have, it would not be less code.
"""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.errors import UserError

LARGEST = 1e100
"""No figure is larger; the squares of larger ones would be infinite."""

LONGEST = 100
"""The largest number of characters of a name: figures have no room for more."""


class Kind(NamedTuple):
    """A kind of values."""

    words: str
    """what is expected, for messages"""
    holds: Callable[[Any], bool]
    """whether a value is of this kind"""


def is_name(value: Any) -> bool:
    """Whether a value is a text that can stand in tables and figures."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST


NUMBER = Kind("a number", _is_number)
POSITIVE = Kind("a number above 0", lambda x: _is_number(x) and x >= 1 / LARGEST)
COUNT = Kind("a whole number", lambda x: type(x) is int and 0 <= x < 2**63)
FLAG = Kind("true or false", lambda x: isinstance(x, bool))
NAME = Kind(f"a name of at most {LONGEST} printable characters", is_name)
OBJECT = Kind("an object", lambda x: isinstance(x, dict))


def optional(kind: Kind) -> Kind:
    """A value of a kind, or null."""
    return Kind(f"{kind.words}, or null", lambda x: x is None or kind.holds(x))


def list_of(kind: Kind) -> Kind:
    """A list of values of a kind."""
    return Kind(
        f"a list, each item {kind.words}",
        lambda x: isinstance(x, list) and all(map(kind.holds, x)),
    )


def check(value: Any, kind: Kind, where: str) -> None:
    """Checks a value.

    Raises:
      UserError: if it is of another kind; the message begins with `where`.
    """
    if not kind.holds(value):
        raise UserError(f"{where}: expected {kind.words}, found {reprlib.repr(value)}")


def check_fields(record: Mapping[str, Any], kinds: Mapping[str, Kind], where: str) -> None:
    """Checks the fields that a record has; it need not have all, and may have others.

    Raises:
      UserError: for the first field of another kind.
    """
    for name, kind in kinds.items():
        if name in record:
            check(record[name], kind, f"{where}: {name}")


def check_present(record: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    """Checks that a record has fields, which are not null.

    Raises:
      UserError: for the first one that is missing.
    """
    for name in names:
        if record.get(name) is None:
            raise UserError(f"{where}: expected {name}, found {reprlib.repr(sorted(record))}")
