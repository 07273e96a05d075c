"""Checkpoints: states of runs on disk, from which interrupted runs resume.

If the seeds 0 and 1 of a method are trained together, their checkpoint is in the folder
`{method}-seed0+1.checkpoint`, which is in the folder of results. It contains one numbered folder
with the newest state. Orbax writes a new state under another name and renames it when it is
complete; then the old state is removed. `version.json` beside it says what has made it.
"""

import asyncio
import contextlib
import json
import logging
import os
import pathlib
import re
import reprlib
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

import dbmtl_jax as dbmtl
from benchmarks.errors import UserError
from benchmarks.files import json_text
from benchmarks.run_log import disk_errors, make_folder, write_file
from benchmarks.training import distributed

_SUFFIX = ".checkpoint"
_NAME = re.compile(
    rf"(?P<method>.+)-seed(?P<seeds>[0-9]{{1,9}}(\+[0-9]{{1,9}})*){_SUFFIX}", re.ASCII
)

_VERSION = "version.json"

_ASK_EVERY = 50
"""With several processes, the number of steps after which process 0 decides on a checkpoint."""


def path(folder: pathlib.Path, method: str, seeds: Sequence[int]) -> pathlib.Path:
    """The folder of the checkpoint of seeds that are trained together."""
    return folder / f"{method}-seed{'+'.join(map(str, seeds))}{_SUFFIX}"


def begun(folder: pathlib.Path, method: str) -> list[tuple[int, ...]]:
    """The seeds of every existing checkpoint of a method."""
    found = []
    for there in folder.glob(f"*{_SUFFIX}"):
        match = _NAME.fullmatch(there.name)
        if match is None or match["method"] != method:
            continue
        seeds = tuple(sorted(set(map(int, match["seeds"].split("+")))))
        if there == path(folder, method, seeds):  # others are copies that something else has made
            found.append(seeds)
    return sorted(found)


class Checkpoints:
    """Saves and restores the state of a run.

    Args:
      folder: folder of the checkpoint, see `path`.
      seconds: minimum time between two checkpoints.
    """

    def __init__(self, folder: pathlib.Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        self._last, self._asked = time.monotonic(), 0

    @property
    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        if jax.process_count() > 1:
            self._asked += 1
            return self._asked % _ASK_EVERY == 0 and bool(distributed.agree(self._passed))
        return self._passed

    @property
    def _passed(self) -> bool:
        return time.monotonic() - self._last >= self._seconds

    @property
    def exist(self) -> bool:
        """Whether the folder exists; its checkpoints may be damaged."""
        return bool(distributed.agree(self._folder.exists()))

    def save(self, state: Any) -> None:
        """Writes a state (a tree of arrays, PRNG keys and numbers) and removes older states.

        Raises:
          UserError: if it cannot be written; the older states are then kept.
        """
        plain = _on_host(state)
        if distributed.is_first():
            self._write(plain)
        self._last = time.monotonic()

    def _write(self, plain: Any) -> None:
        make_folder(self._folder)
        write_file(self._folder / _VERSION, json.dumps(_made_by(plain)) + "\n")
        target = self._folder / str(1 + max(map(int, self._complete()), default=0))
        with _write_errors(target), _orbax() as checkpointer:
            checkpointer.save(target.absolute(), {"state": plain, "checksum": _checksum(plain)})
        for other in self._folder.iterdir():
            if other not in (target, self._folder / _VERSION):
                shutil.rmtree(other, ignore_errors=True)

    def restore(self, like: Any, note: Callable[[str], None]) -> Iterator[Any]:
        """Yields the states that can be read, newest first; usually there is only one.

        Args:
          like: a state with the same structure, shapes and types of leaves.
          note: called with a message for each state that cannot be read.

        Raises:
          UserError: if another version of the project has made the states, as going on would mix
            two versions in one run, and starting over would lose what they hold.
        """
        plain = _on_host(like)
        self._check_version(plain)
        for name in distributed.agree(self._complete()):
            found = None
            try:
                if distributed.is_first():
                    found = self._read(name, plain)
            # All exceptions, as the errors of Orbax for damaged files are not documented.
            except Exception as error:
                note(f"{self._folder / name} is damaged and not used ({_line(error)})")
            if distributed.agree(found is not None):
                yield jax.tree.map(_like, like, distributed.share(found or plain))

    def _check_version(self, plain: Any) -> None:
        found, here = json_text.read_object(self._folder / _VERSION), _made_by(plain)
        if found is None or found == here:  # older checkpoints do not say what made them
            return
        raise UserError(
            f"{self._folder} was made by another version of dbmtl_jax, {_shown(found)}, this is "
            f"{_shown(here)}: go on with that version, or remove the folder to start the run over"
        )

    def _read(self, name: str, plain: Any) -> Any:
        """Reads a state and checks its checksum and shapes."""
        with _orbax() as checkpointer:
            found = checkpointer.restore(
                (self._folder / name).absolute(),
                {"state": plain, "checksum": _checksum([])},
            )
        if _checksum(found["state"]) != found["checksum"]:
            raise ValueError("the checksum differs")
        jax.tree.map(_check_shape, plain, found["state"])
        return found["state"]

    def discard(self) -> None:
        """Removes the folder."""
        if distributed.is_first():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _complete(self) -> list[str]:
        """The names of the complete states, newest first."""
        with disk_errors(self._folder):
            found = self._folder.iterdir() if self._folder.exists() else ()
            names = [item.name for item in found if item.name.isdecimal()]
        return sorted(names, key=int, reverse=True)


def _on_host(tree: Any) -> Any:
    """Converts all leaves, including PRNG keys and numbers, to NumPy arrays."""
    data = jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)
    return distributed.on_host(data)


def _made_by(plain: Any) -> dict[str, Any]:
    """The version of the project, and a number for the parts that its states have.

    Both, as states may change many times between two versions.
    """
    parts = ", ".join(jax.tree_util.keystr(key) for key, _ in jax.tree.leaves_with_path(plain))
    return {"version": dbmtl.__version__, "state": f"{zlib.crc32(parts.encode()):08x}"}


def _shown(made_by: dict[str, Any]) -> str:
    return reprlib.repr(f"{made_by.get('version')} ({made_by.get('state')})")


def _check_shape(expected: np.ndarray, found: np.ndarray) -> None:
    if np.shape(found) != np.shape(expected):
        raise ValueError(f"expected shape {np.shape(expected)}, found {np.shape(found)}")


def _like(like: Any, found: np.ndarray) -> Any:
    """Converts a restored leaf to the type, dtype and sharding of `like`."""
    if _is_key(like):
        data = _like(jax.random.key_data(like), found)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))
    if isinstance(like, jax.Array) and isinstance(like.sharding, NamedSharding):
        host = np.array(found, like.dtype)
        return jax.make_array_from_callback(host.shape, like.sharding, lambda index: host[index])
    if isinstance(like, jax.Array):
        return jnp.array(found, like.dtype)  # a copy, as steps donate their arguments
    return found if isinstance(like, np.ndarray) else found.item()


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _checksum(plain: Any) -> np.ndarray:
    """A checksum of all bytes, as Orbax does not detect every change."""
    total = 0
    for leaf in jax.tree.leaves(plain):
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), total)
    return np.asarray(total, np.uint32)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that ignores callbacks after it is closed.

    If an array cannot be written or read, Orbax closes its loop. TensorStore still reports the
    other arrays to the loop, which would print a traceback for each of them.
    """

    def call_soon_threadsafe(  # type: ignore[override]  # the original is generic
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        try:
            return super().call_soon_threadsafe(callback, *args, context=context)
        except RuntimeError:
            if not self.is_closed():
                raise


class _LoopPolicy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _Loop()


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
    """A checkpointer that works in the caller's thread and reports errors only as exceptions."""
    # Imported late, as it takes a second and short runs do not need it.
    from orbax import checkpoint

    logger, policy = logging.getLogger("absl"), asyncio.get_event_loop_policy()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    asyncio.set_event_loop_policy(_LoopPolicy())
    # Only process 0 uses Orbax, which would otherwise wait for the other processes.
    alone = (
        checkpoint.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
        )
        if jax.process_count() > 1
        else checkpoint.options.MultiprocessingOptions()
    )
    handler = checkpoint.PyTreeCheckpointHandler(multiprocessing_options=alone)
    try:
        with checkpoint.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            yield checkpointer
    finally:
        asyncio.set_event_loop_policy(policy)
        logger.setLevel(level)


@contextlib.contextmanager
def _write_errors(target: pathlib.Path) -> Iterator[None]:
    """Like `disk_errors`, and also for errors of TensorStore, which are ValueErrors."""
    try:
        with disk_errors(target):
            yield
    except ValueError as error:
        raise UserError(f"{target}: cannot write ({_line(error)})") from error


def _line(error: Exception) -> str:
    """A short message; the long messages of TensorStore contain the error of the system."""
    text = " ".join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)
    return os.strerror(int(code[1])) if code else text[:200] or type(error).__name__
