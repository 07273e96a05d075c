"""Which runs of a folder are left to train, where other processes may be training some of them."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks import run_log
from benchmarks.errors import UserError
from benchmarks.methods import BASELINE
from benchmarks.run_log import HeldError, RunLog
from benchmarks.training import checkpoints


class Group(NamedTuple):
    """Seeds of a method that are trained together."""

    method: str
    seeds: tuple[int, ...]
    begun: bool  # has a checkpoint, which is of all of its seeds


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The runs of a folder.

    Args:
      folder: of results.
      methods: by name.
      seeds: of every method.
      together: all seeds of a method form one group.
    """

    folder: pathlib.Path
    methods: Sequence[str]
    seeds: Sequence[int]
    together: bool = False

    def left(self) -> list[Group]:
        """The runs that are not complete, the baseline's first."""
        ordered = sorted(dict.fromkeys(self.methods), key=lambda method: method != BASELINE)
        return [group for method in ordered for group in self._left_of(method)]

    def _left_of(self, method: str) -> list[Group]:
        missing = [seed for seed in self.seeds if not self._is_complete(method, seed)]
        groups = []
        for seeds in checkpoints.begun(self.folder, method):
            if all(self._is_complete(method, seed) for seed in seeds):
                # A crash between the last record and the checkpoint's removal.
                checkpoints.Checkpoints(checkpoints.path(self.folder, method, seeds), 0).discard()
            elif set(seeds) & set(missing):
                groups.append(Group(method, seeds, begun=True))
                missing = [seed for seed in missing if seed not in seeds]
        fresh = [tuple(missing)] if self.together and missing else [(seed,) for seed in missing]
        return sorted(groups + [Group(method, own, begun=False) for own in fresh])

    def run(
        self, train: Callable[[str, dict[int, RunLog]], None], say: Callable[[str], None]
    ) -> None:
        """Trains what is left, and waits for what other processes are training.

        Args:
          train: deals with runs of a method, given the records of its seeds, which are locked.
          say: is told what is being waited for.

        Raises:
          UserError: see `check_baselines`.
        """
        done: set[tuple[str, int]] = set()  # also what `train` left out
        while left := [g for g in self.left() if any((g.method, s) not in done for s in g.seeds)]:
            self.check_baselines()
            blocked: list[pathlib.Path] = []
            before = len(done)
            for group in left:
                with contextlib.ExitStack() as stack:
                    logs, others = self._take(group, stack)
                    blocked += others
                    if logs:
                        train(group.method, logs)
                        done |= {(group.method, seed) for seed in logs}
            if blocked and len(done) == before:
                say(f"waiting for {blocked[0].name}, which another process is training")
                run_log.wait(blocked[0])

    def check_baselines(self) -> None:
        """Checks that every seed's baseline is there, or is trained here or elsewhere.

        Raises:
          UserError: otherwise.
        """
        for seed in () if BASELINE in self.methods else self.seeds:
            path = self._path(BASELINE, seed)
            # In this order, as it may end between the two.
            if not run_log.is_held(path) and not run_log.has_result(run_log.read_run(path)):
                raise UserError(
                    f"--methods: {BASELINE} is missing, and {self.folder} has no finished run of "
                    f"it for seed {seed}; Δp is relative to it, and validation chooses epochs by Δp"
                )

    def _take(
        self, group: Group, stack: contextlib.ExitStack
    ) -> tuple[dict[int, RunLog], list[pathlib.Path]]:
        """The records of the seeds that can be trained now, and what the others wait for."""
        logs, blocked = {}, []
        for seed in group.seeds:
            if group.method != BASELINE and not self._is_complete(BASELINE, seed):
                blocked.append(self._path(BASELINE, seed))
                continue
            try:
                logs[seed] = stack.enter_context(RunLog(self._path(group.method, seed)))
            except HeldError as error:
                blocked.append(error.path)
        missing = [seed for seed in logs if not self._is_complete(group.method, seed)]
        if group.begun:  # all of it, or nothing
            return (logs if missing and not blocked else {}), blocked
        return {seed: logs[seed] for seed in missing}, blocked

    def _is_complete(self, method: str, seed: int) -> bool:
        return run_log.is_complete(run_log.read_run(self._path(method, seed)))

    def _path(self, method: str, seed: int) -> pathlib.Path:
        return run_log.run_path(self.folder, method, seed)
