"""Folders that are written completely or not at all."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from benchmarks.errors import UserError


@contextlib.contextmanager
def new_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder, whose subfolder `done` becomes `target` at the end.

    After an error or an interruption, nothing is left.

    Raises:
      UserError: if `target` exists already and is not empty, or cannot be written.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} is there already: remove it, or choose another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder as the target, as files cannot be renamed across file systems.
        temporary = pathlib.Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield temporary
            (temporary / "done").chmod(0o755)
            (temporary / "done").replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{target}: cannot write ({error.strerror or error})") from error
