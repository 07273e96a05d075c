"""Messages about tasks that a method had to leave out."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import dbmtl_jax as dbmtl
from benchmarks.progress import Progress


class SkippedTasks:
    """Notes after an epoch which tasks were skipped in it, how often and why.

    Args:
      tasks: names of the tasks.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = tasks
        self._counts: dict[int, np.ndarray] = {}  # for each seed, [T]

    def note(self, seed: int, opt_state: Any, progress: Progress) -> None:
        """Displays a line for each task if any task was skipped since the last call.

        Args:
          seed: seed of the run.
          opt_state: state of the optimizer, which contains that of a method.
          progress: display for the lines.
        """
        counts = np.asarray(jax.device_get(dbmtl.diagnostics(opt_state).skipped))
        if np.any(counts > self._counts.get(seed, 0)):
            for line in dbmtl.report_skipped(opt_state):
                named = re.sub(r"^task (\d+)", lambda m: self._tasks[int(m[1])], line)
                progress.note(f"seed {seed}: {named}")
        self._counts[seed] = counts
