"""The order of the runs of a folder, of which other processes may be training some."""

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
    begun: bool  # whether there is a checkpoint of these seeds


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The runs of a folder.

    Args:
      folder: folder of results.
      methods: names of the methods.
      seeds: seeds of every method.
      together: whether all seeds of a method are trained together.
    """

    folder: pathlib.Path
    methods: Sequence[str]
    seeds: Sequence[int]
    together: bool = False

    def left(self) -> list[Group]:
        """The runs that are not complete; those of the baseline come first."""
        ordered = sorted(dict.fromkeys(self.methods), key=lambda method: method != BASELINE)
        return [group for method in ordered for group in self._left_of(method)]

    def _left_of(self, method: str) -> list[Group]:
        missing = [seed for seed in self.seeds if not self._is_complete(method, seed)]
        groups = []
        for seeds in checkpoints.begun(self.folder, method):
            if all(self._is_complete(method, seed) for seed in seeds):
                # The run crashed after its last record, before it removed the checkpoint.
                checkpoints.Checkpoints(checkpoints.path(self.folder, method, seeds), 0).discard()
            elif set(seeds) & set(missing):
                groups.append(Group(method, seeds, begun=True))
                missing = [seed for seed in missing if seed not in seeds]
        fresh = [tuple(missing)] if self.together and missing else [(seed,) for seed in missing]
        return sorted(groups + [Group(method, own, begun=False) for own in fresh])

    def run(
        self, train: Callable[[str, dict[int, RunLog]], None], say: Callable[[str], None]
    ) -> None:
        """Trains the runs that are left, and waits for those that other processes are training.

        Args:
          train: called with a method and the locked logs of its seeds; trains these runs.
          say: called with a message before waiting for another process.

        Raises:
          UserError: if a baseline is missing, see `check_baselines`.
        """
        done: set[tuple[str, int]] = set()  # includes runs that `train` skipped
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
        """Checks that the baseline of every seed is finished or being trained.

        Raises:
          UserError: otherwise.
        """
        for seed in () if BASELINE in self.methods else self.seeds:
            path = self._path(BASELINE, seed)
            # In this order, as the run may end between the two calls.
            if not run_log.is_held(path) and not run_log.has_result(run_log.read_run(path)):
                raise UserError(
                    f"--methods: {BASELINE} is missing, and {self.folder} has no finished run of "
                    f"it for seed {seed}; Δp is relative to it, and validation chooses epochs by Δp"
                )

    def _take(
        self, group: Group, stack: contextlib.ExitStack
    ) -> tuple[dict[int, RunLog], list[pathlib.Path]]:
        """Locks the logs of seeds that can be trained now; also returns the files to wait for."""
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
        if group.begun:  # the seeds of a checkpoint can only be trained together
            return (logs if missing and not blocked else {}), blocked
        return {seed: logs[seed] for seed in missing}, blocked

    def _is_complete(self, method: str, seed: int) -> bool:
        return run_log.is_complete(run_log.read_run(self._path(method, seed)))

    def _path(self, method: str, seed: int) -> pathlib.Path:
        return run_log.run_path(self.folder, method, seed)
