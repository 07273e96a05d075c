"""Runs that end too early, in many ways."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks.training.checkpoints import Checkpoints

TIMING = ("seconds", "steps_per_second", "environment")


class Interruption(Exception):  # noqa: N818  # not an error
    """Ends a run in the middle, in place of a crash."""


class EverySteps(Checkpoints):
    """Checkpoints at every n-th opportunity, whatever time it is."""

    def __init__(self, folder: pathlib.Path, n: int) -> None:
        super().__init__(folder, 0)
        self._n, self._asked = n, 0

    @property
    def due(self) -> bool:
        """Counts how often it is asked."""
        self._asked += 1
        return self._asked % self._n == 0


def before_step(n: int, step: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """The training step, with something that happens before the n-th call."""
    calls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n:
            act()
        return step(*arguments)

    return counted


def figures(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a run without those fields that no two runs have in common."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in TIMING} for record in records]
