"""JSON that may be damaged."""

import json
import pathlib
import re
import reprlib
from typing import Any

from benchmarks.errors import UserError
from benchmarks.files.disk import in_a_line, read_bytes

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse(content: bytes, where: str) -> Any:
    """The value that a text stands for; NaN and infinity are read as null, as they are written.

    Args:
      content: the text in UTF-8.
      where: the file, or the line of a file, for the message.

    Raises:
      UserError: if it is not JSON, or nothing that Python could hold.
    """
    try:
        text = content.decode()
        value = json.loads(text, parse_constant=lambda _: None)
        if _SURROGATE.search(text):  # half of a character would be an error where it is written
            json.dumps(value, ensure_ascii=False).encode()
    # ValueError is the kind of text that is not UTF-8, not JSON, or a number of 5,000 digits.
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{where}: expected JSON, found {reprlib.repr(content)} ({in_a_line(error)})"
        ) from error
    return value


def read_object(path: pathlib.Path) -> dict[str, Any] | None:
    """Reads a file that is one object; None if there is no file.

    Raises:
      UserError: if it is anything else.
    """
    content = read_bytes(path)
    if content is None:
        return None
    found = parse(content, str(path))
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected an object, found {reprlib.repr(found)}")
    return found
