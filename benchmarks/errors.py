"""Errors that the command line reports to its user."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

_INTERRUPTED = 128 + signal.SIGINT
_Named = TypeVar("_Named")


class UserError(Exception):
    """An error that the user can fix, such as a wrong option, a missing file or a full disk.

    The command line prints it as one line, without a traceback.
    """


def look_up(name: str, known: Mapping[str, _Named], kind: str) -> _Named:
    """What a user has named.

    Args:
      name: the name.
      known: all that can be named.
      kind: what they are, such as "data set".

    Raises:
      UserError: if there is no such name.
    """
    if name not in known:
        raise UserError(f"unknown {kind} {name!r}, expected one of {', '.join(known)}")
    return known[name]


def how_to_install(extra: str) -> str:
    """Says how to install the packages of an extra of `pyproject.toml`, such as "vision".

    The extras belong to a checkout, as the wheel of `dbmtl_jax` does not contain `benchmarks`.
    """
    return f"run `pip install -e '.[{extra}]'` in the folder of the checkout"


@contextlib.contextmanager
def told_in_one_line(after_interruption: Callable[[], str] = str) -> Iterator[None]:
    """Ends the program with one line for an error that the user can fix, and for an interruption.

    The exit status is 2, or that which a shell gives an interrupted program (Ctrl-C).

    Args:
      after_interruption: gives what an interrupted user is told besides; by default nothing.
    """
    try:
        yield
    except (UserError, OSError) as error:  # of the latter, names that are too long, for example
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"interrupted{after_interruption()}", file=sys.stderr)
        sys.exit(_INTERRUPTED)
