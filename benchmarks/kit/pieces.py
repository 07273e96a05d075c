"""A folder as a few files of limited size, which travel and are checked where they arrive.

The pieces `state-{number}-{piece}.part` are the parts of one tar file, and `pieces.json` lists them
with their checksums. A new state has a new number, and the list is replaced when all of its pieces
are there: whenever a command is killed, the folder holds one whole state.
"""

import hashlib
import io
import json
import pathlib
import tarfile
from typing import Any

from benchmarks import run_log
from benchmarks.errors import UserError
from benchmarks.files import json_text

LIST = "pieces.json"
PIECE_BYTES = 15 * 2**20
"""The largest size of a piece."""


def exist(folder: pathlib.Path) -> bool:
    """Whether something has been packed into a folder."""
    return (folder / LIST).exists()


def pack(folder: pathlib.Path, into: pathlib.Path, piece_bytes: int = PIECE_BYTES) -> None:
    """Writes all files of a folder as pieces, in place of those that are there.

    Raises:
      UserError: if they cannot be written; those that are there are then kept.
    """
    run_log.make_folder(into)
    number = 1 + (_read_list(into)["number"] if exist(into) else 0)
    content = _tar(folder)
    pieces = []
    for index, begin in enumerate(range(0, len(content), piece_bytes)):
        part = content[begin : begin + piece_bytes]
        path = into / f"state-{number}-{index}.part"
        with run_log.disk_errors(path):
            path.write_bytes(part)
        pieces.append({"file": path.name, "bytes": len(part), "sha256": _checksum(part)})
    text = json.dumps({"number": number, "pieces": pieces}, indent=2) + "\n"
    run_log.write_file(into / LIST, text)
    current = {piece["file"] for piece in pieces}
    for path in into.glob("state-*.part"):
        if path.name not in current:
            path.unlink(missing_ok=True)


def unpack(packed: pathlib.Path, into: pathlib.Path) -> None:
    """Writes the files of the folder that was packed into a new or empty one.

    Raises:
      UserError: if a piece is missing or damaged, or the folder has files; nothing is written then.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"--out: {into} exists and is not empty, expected a new folder")
    pieces = _read_list(packed)["pieces"]
    content = b"".join(_piece(packed, piece, len(pieces)) for piece in pieces)
    run_log.make_folder(into)
    with run_log.disk_errors(into), tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(into, filter="data")


def _tar(folder: pathlib.Path) -> memoryview:
    stream = io.BytesIO()
    with run_log.disk_errors(folder), tarfile.open(fileobj=stream, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
    return stream.getbuffer()


def _piece(packed: pathlib.Path, piece: dict[str, Any], count: int) -> bytes:
    path = packed / piece["file"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot read ({error.strerror}), expected all {count} pieces of {LIST}: copy "
            "the whole folder again"
        ) from error
    if len(content) != piece["bytes"] or _checksum(content) != piece["sha256"]:
        raise UserError(
            f"{path}: damaged, found {len(content):,} bytes with the checksum "
            f"{_checksum(content)[:8]}, expected {piece['bytes']:,} with {piece['sha256'][:8]}: "
            "copy it again"
        )
    return content


def _read_list(packed: pathlib.Path) -> dict[str, Any]:
    path = packed / LIST
    found = json_text.read_object(path)
    if found is None:
        raise UserError(f"{path}: cannot read (no such file)")
    try:
        pieces = [(str(p["file"]), int(p["bytes"]), str(p["sha256"])) for p in found["pieces"]]
        int(found["number"])
    except (ValueError, OverflowError, TypeError, KeyError) as error:
        raise UserError(f"{path}: expected a list of pieces, found another text") from error
    if any("/" in name or not name.endswith(".part") for name, _, _ in pieces):
        raise UserError(f"{path}: expected the names of pieces beside it, found others")
    return found


def _checksum(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
