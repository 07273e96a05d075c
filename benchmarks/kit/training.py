"""`kit qm9`: trains the runs of a comparison on QM9 in pieces of limited time.

The runs are those of `compare qm9`, in a scratch folder, which is packed whenever a checkpoint is
written: so the command may end at any time, and the next one unpacks it and goes on.
"""

import contextlib
import dataclasses
import functools
import json
import math
import pathlib
import tempfile
from collections.abc import Callable, Sequence

import jax

from benchmarks import methods, run_log
from benchmarks.errors import UserError
from benchmarks.kit import pieces, single_task
from benchmarks.kit.deadline import Deadline, OutOfTime
from benchmarks.problems.qm9 import TASKS, Molecules
from benchmarks.problems.qm9.problem import QM9Problem
from benchmarks.problems.qm9.settings import QM9Config
from benchmarks.progress import Display, Progress, Say
from benchmarks.settings import Comparison
from benchmarks.training import runs
from benchmarks.training.checkpoints import Checkpoints

LOG = "pieces.jsonl"
"""In the folder of the runs: a line for each piece, with the machine that trained it."""

RESERVE = 30.0
"""Seconds that are kept for the last checkpoint of a piece."""

TO_BEGIN = 120.0
"""Seconds without which no new run is begun, as its programs must be compiled first."""

_LINES_PER_RUN = 100


class PackedCheckpoints(Checkpoints):
    """Checkpoints after which the whole folder is packed, and which end a piece in time.

    Args:
      folder: folder of the checkpoint.
      seconds: minimum time between two checkpoints.
      deadline: when the command must have ended.
      pack: packs the folder of the runs.

    Raises:
      OutOfTime: if a run begins that has no time to get anywhere.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        seconds: float,
        *,
        deadline: Deadline,
        pack: Callable[[], None],
    ) -> None:
        super().__init__(folder, seconds)
        self._deadline, self._pack = deadline, pack
        self._seen, self._farthest = deadline.left, 0.0
        if deadline.left < TO_BEGIN:
            raise OutOfTime

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint, or for the last one of this piece."""
        left = self._deadline.left
        self._farthest = max(self._farthest, self._seen - left)
        self._seen = left
        return self._is_last or super().due

    @property
    def _is_last(self) -> bool:
        # The next time that the trainer asks may be as far away as it ever was, in a compilation.
        return self._seen < RESERVE + self._farthest

    def save(self, state: object) -> None:
        """Writes a state and packs the folder.

        Raises:
          OutOfTime: after the last state of this piece.
        """
        super().save(state)
        self._pack()
        self._seen = self._deadline.left  # what saving took is not the trainer's
        if self._is_last:
            raise OutOfTime


def train(
    config: Comparison,
    molecules: Molecules,
    deadline: Deadline,
    say: Say = print,
    *,
    at_once: int = len(TASKS),
) -> list[str]:
    """Trains for as long as there is time.

    Args:
      config: what to train; `config.out` is the folder of the pieces.
      molecules: the molecules of QM9.
      deadline: when the command must have ended.
      say: prints a line.
      at_once: number of single-task networks that are trained together.

    Returns:
      The names of the runs that are left.

    Raises:
      UserError: for a wrong option, if a piece is missing or damaged, or if the folder is of other
        settings.
    """
    if not 1 <= at_once <= len(TASKS):
        raise UserError(f"--at-once: expected 1 to {len(TASKS)}, found {at_once}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "runs"
        folder.mkdir()
        if pieces.exist(config.out):
            pieces.unpack(config.out, folder)
        begun: list[Progress] = []

        def progress(name: str) -> Progress:
            begun.append(Progress(say, name, _LINES_PER_RUN))
            return begun[-1]

        def pack() -> None:
            _limit(folder / "programs", pieces.PIECE_BYTES)
            pieces.pack(folder, config.out)

        saved = functools.partial(PackedCheckpoints, deadline=deadline, pack=pack)
        here = runs.spelt_out(dataclasses.replace(config, out=folder))

        def work(config: Comparison, tasks: Sequence[int] | None = None) -> runs.Work:
            display = Display(say, lambda name: progress(_name(name, tasks)))
            return runs.Work(config, lambda: _problem(config, molecules, tasks), display, saved)

        say(f"piece {1 + _log(folder, deadline)} on {jax.devices()[0].device_kind}")
        _keep_programs(folder / "programs")
        with contextlib.suppress(OutOfTime):
            if at_once < len(TASKS) and methods.BASELINE in here.methods:
                single_task.train(here, at_once, work)
            runs.train_missing(work(here))
        pack()
        left = _left(here)
        say(_outlook(left, begun[-1] if begun else None, deadline))
        return left


def _problem(config: Comparison, molecules: Molecules, tasks: Sequence[int] | None) -> QM9Problem:
    assert isinstance(config.data, QM9Config)
    dtype = config.train.compute_dtype
    return QM9Problem(
        config.data, config.train.batch_size, molecules, compute_dtype=dtype, tasks=tasks
    )


def _name(run: str, tasks: Sequence[int] | None) -> str:
    return run if tasks is None else f"{run} ({', '.join(TASKS[task] for task in tasks)})"


def _left(config: Comparison) -> list[str]:
    schedule = runs.schedule_of(config)
    return [
        f"{methods.display_name(group.method)}, seed {'+'.join(map(str, group.seeds))}"
        for group in schedule.left()
    ]


def _outlook(left: list[str], last: Progress | None, deadline: Deadline) -> str:
    """What is left and how many pieces it takes; only the run in progress can be estimated."""
    if not left:
        return "all runs are complete: unpack them"
    text = f"left: {'; '.join(left)}"
    if last is None or not 0 < last.share < 1 or math.isinf(last.seconds_left):
        return text
    more = math.ceil(last.seconds_left / (deadline.seconds - RESERVE))
    rest = ", without the other runs" if len(left) > 1 else ""
    return f"{text}\n{last.name} is {last.share:.1%} done; pieces that it still takes: {more}{rest}"


def _log(folder: pathlib.Path, deadline: Deadline) -> int:
    """Notes the piece that begins; returns the number of those before it."""
    path = folder / LOG
    with run_log.disk_errors(path):
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        record = {"seconds": deadline.seconds, "environment": run_log.environment()}
        path.write_text(before + json.dumps(record) + "\n", encoding="utf-8")
    return before.count("\n")


def _keep_programs(folder: pathlib.Path) -> None:
    """Has JAX read compiled programs from a folder, and write those that take long to compile."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Else the options of a program have the name of the folder, which is another in every piece.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def _limit(folder: pathlib.Path, size: int) -> None:
    """Removes the oldest files of a folder beyond a size in bytes."""
    found = (
        sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime) if folder.exists() else []
    )
    total = sum(path.stat().st_size for path in found)
    for path in found:
        if total <= size:
            break
        total -= path.stat().st_size
        path.unlink()
