"""Several processes that train the runs of one folder, each on a core of its own.

For networks so small that one process has no work for several threads.  The processes share the
folder as any processes do, by locks, and keep compiled programs for each other.
"""

import contextlib
import io
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import IO, NamedTuple, cast

import rich.console

from benchmarks.errors import UserError

Work = Callable[[rich.console.Console], None]
"""What a process does; it must be picklable."""

_CACHE = "JAX_COMPILATION_CACHE_DIR"


class _Job(NamedTuple):
    process: multiprocessing.process.BaseProcess
    output: Connection  # pairs: whether it has ended, and a line or else what failed


def check(count: int) -> None:
    """Checks that there is a core for each of `count` processes.

    Raises:
      UserError: otherwise.
    """
    cores = len(_cores())
    if not 1 <= count <= cores:
        raise UserError(f"--jobs: expected 1 to {cores}, the number of cores, found {count}")


def run(work: Work, count: int, say: Callable[[str], None]) -> list[str]:
    """Has `count` processes do the same work, and shows their lines.

    If one of them fails, the others go on; a line says so at once.

    Args:
      work: what each of them does.
      count: number of processes.
      say: shows a line.

    Returns:
      what went wrong, one line for each process that failed.

    Raises:
      UserError: if there are not so many cores.
    """
    cores = _cores()
    check(count)
    failed: list[str] = []
    with contextlib.ExitStack() as stack:
        left = [stack.enter_context(_started(work, cores[k : k + 1])) for k in range(count)]
        while left:
            ready = wait([job.output for job in left])
            for job in [job for job in left if job.output in ready]:
                try:
                    ended, line = job.output.recv()
                except (EOFError, OSError):
                    ended, line = True, _how_it_ended(job)
                if not ended:
                    say(line)
                    continue
                left.remove(job)
                if line:
                    failed.append(line)
                    say(line + "; the other processes go on" * bool(left))
    return failed


@contextlib.contextmanager
def _started(work: Work, cores: Sequence[int]) -> Iterator[_Job]:
    """A process at work, which is ended at the latest when the context is left."""
    # Not forked, as the threads of JAX would not be there in a copy.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_do, args=(work, cores, theirs), daemon=True)
    with _no_interrupts():  # also in the child: it ends when this process does
        process.start()
    theirs.close()
    try:
        yield _Job(process, ours)
    finally:
        ours.close()
        process.terminate()
        process.join()


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Keeps Ctrl-C back, which a terminal sends to all processes; those started here inherit it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # as its own start would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _do(work: Work, cores: Sequence[int], pipe: Connection) -> None:
    """The program of a process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # before JAX counts the cores for its threads
    os.environ.setdefault(_CACHE, str(_default_cache()))
    from benchmarks import allocator

    allocator.keep_memory()
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    console = rich.console.Console(
        file=cast(IO[str], _Lines(pipe)),
        width=10_000,
        markup=False,
        highlight=False,
        color_system=None,
    )
    try:
        work(console)
    except (UserError, OSError) as error:
        pipe.send((True, str(error)))
    else:
        pipe.send((True, ""))


class _Lines(io.TextIOBase):
    """A text file whose lines go through a pipe."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe, self._line = pipe, ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._pipe.send((False, line.rstrip()))
        return len(text)


def _end_with_parent(pipe: Connection) -> None:
    """Ends this process when the other end of the pipe is gone; nothing else is sent from there."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    os._exit(1)


def _how_it_ended(job: _Job) -> str:
    job.process.join(5)
    status = job.process.exitcode
    killed = ", as something killed it; was there enough memory?" if status == -9 else ""
    return f"a process ended with exit status {status}{killed}"


def _cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _default_cache() -> pathlib.Path:
    """Where compiled programs are kept for other processes and later runs."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "dbmtl_jax" / "programs"
