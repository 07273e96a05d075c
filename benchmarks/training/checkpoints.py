"""The state of a run on disk, from which it goes on after a crash.

Beside the records of the seeds 0 and 1 of a method that are trained together is the folder
`{method}-seed0+1.checkpoint` with one numbered folder in it, the newest state. Orbax writes a new
one under another name and renames it when it is complete; only then is the old one removed.
"""

import asyncio
import contextlib
import logging
import os
import pathlib
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from benchmarks.errors import UserError
from benchmarks.run_log import disk_errors, make_folder
from benchmarks.training import distributed

_SUFFIX = ".checkpoint"

_ASK_EVERY = 50
"""Steps between two of process 0's answers to the others whether a checkpoint is due."""


def path(folder: pathlib.Path, method: str, seeds: Sequence[int]) -> pathlib.Path:
    """Where the checkpoint of seeds is that are trained together."""
    return folder / f"{method}-seed{'+'.join(map(str, seeds))}{_SUFFIX}"


def begun(folder: pathlib.Path, method: str) -> list[tuple[int, ...]]:
    """The seeds that are trained together, for every checkpoint of a method."""
    paths = folder.glob(f"*{_SUFFIX}")
    names = [p.name.removesuffix(_SUFFIX).rpartition("-seed") for p in paths]
    return sorted(tuple(map(int, name[2].split("+"))) for name in names if name[0] == method)


class Checkpoints:
    """The newest state of one run.

    Args:
      folder: of the checkpoint, see `path`.
      seconds: that pass at least between two of them.
    """

    def __init__(self, folder: pathlib.Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        self._last, self._asked = time.monotonic(), 0

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        if jax.process_count() > 1:
            self._asked += 1
            return self._asked % _ASK_EVERY == 0 and bool(distributed.agree(self._passed))
        return self._passed

    @property
    def _passed(self) -> bool:
        return time.monotonic() - self._last >= self._seconds

    @property
    def exist(self) -> bool:
        """Whether there is anything, usable or not."""
        return bool(distributed.agree(self._folder.exists()))

    def save(self, state: Any) -> None:
        """Writes a state, a tree of arrays, PRNG keys and numbers, and removes older ones.

        Raises:
          UserError: if that fails; what was there is then still there.
        """
        plain = _on_host(state)
        if distributed.is_first():
            self._write(plain)
        self._last = time.monotonic()

    def _write(self, plain: Any) -> None:
        make_folder(self._folder)
        target = self._folder / str(1 + max(map(int, self._complete()), default=0))
        with _write_errors(target), _orbax() as checkpointer:
            checkpointer.save(target.absolute(), {"state": plain, "checksum": _checksum(plain)})
        for other in self._folder.iterdir():
            if other != target:
                shutil.rmtree(other, ignore_errors=True)

    def restore(self, like: Any, note: Callable[[str], None]) -> Iterator[Any]:
        """The states that can be read, newest first: one, unless a crash left two.

        Args:
          like: a state of the same structure, shapes and kinds of leaves.
          note: is told about those that cannot be read.
        """
        plain = _on_host(like)
        for name in distributed.agree(self._complete()):
            found = None
            try:
                if distributed.is_first():
                    found = self._read(name, plain)
            # Any: what a damaged file makes of Orbax cannot be foreseen.
            except Exception as error:
                note(f"{self._folder / name} is damaged and not used ({_line(error)})")
            if distributed.agree(found is not None):
                yield jax.tree.map(_like, like, distributed.share(found or plain))

    def _read(self, name: str, plain: Any) -> Any:
        """A state of these shapes."""
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
        """Removes all that there is."""
        if distributed.is_first():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _complete(self) -> list[str]:
        """The names of states that were written to the end, newest first."""
        with disk_errors(self._folder):
            found = self._folder.iterdir() if self._folder.exists() else ()
            names = [item.name for item in found if item.name.isdecimal()]
        return sorted(names, key=int, reverse=True)


def _on_host(tree: Any) -> Any:
    """NumPy arrays alone: PRNG keys as their data, numbers as arrays."""
    data = jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)
    return distributed.on_host(data)


def _check_shape(expected: np.ndarray, found: np.ndarray) -> None:
    if np.shape(found) != np.shape(expected):
        raise ValueError(f"expected shape {np.shape(expected)}, found {np.shape(found)}")


def _like(like: Any, found: np.ndarray) -> Any:
    """A leaf as what it was before it was saved."""
    if _is_key(like):
        data = _like(jax.random.key_data(like), found)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))
    if isinstance(like, jax.Array) and isinstance(like.sharding, NamedSharding):
        host = np.array(found, like.dtype)
        return jax.make_array_from_callback(host.shape, like.sharding, lambda index: host[index])
    if isinstance(like, jax.Array):
        return jnp.array(found, like.dtype)  # a copy, as steps overwrite their arguments
    return found if isinstance(like, np.ndarray) else found.item()


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _checksum(plain: Any) -> np.ndarray:
    """Of all bytes; Orbax would not notice every change."""
    total = 0
    for leaf in jax.tree.leaves(plain):
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), total)
    return np.asarray(total, np.uint32)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that ignores what it is told after its end.

    When one array cannot be written or read, Orbax closes its loop; TensorStore then reports the
    other arrays to it, each of which would print a traceback.
    """

    def call_soon_threadsafe(  # type: ignore[override]  # its own is generic
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
    """A checkpointer that works in the caller's thread and reports errors as exceptions alone."""
    # Imported only now: it takes a second, and a short run needs none.
    from orbax import checkpoint

    logger, policy = logging.getLogger("absl"), asyncio.get_event_loop_policy()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    asyncio.set_event_loop_policy(_LoopPolicy())
    # Process 0 works alone: Orbax would else wait for the others.
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
    """As `disk_errors`; TensorStore's are ValueErrors."""
    try:
        with disk_errors(target):
            yield
    except ValueError as error:
        raise UserError(f"{target}: cannot write ({_line(error)})") from error


def _line(error: Exception) -> str:
    """What went wrong; TensorStore's messages are long, and have the system's error within."""
    text = " ".join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)
    return os.strerror(int(code[1])) if code else text[:200] or type(error).__name__
