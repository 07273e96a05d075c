"""What long work tells while it runs, as lines; `benchmarks.progress_bar` has a bar, too."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple, Self

import jax

Say = Callable[[str], None]
"""Shows a line of text."""


class Progress:
    """Prints from time to time the epoch of a run and the time that is left.

    Args:
      say: prints a line.
      name: name of the run, with which every line begins.
      lines: number of lines in a whole run, about; 0: none but notes.
    """

    def __init__(self, say: Say, name: str, lines: int = 10) -> None:
        self._say, self.name, self._lines = say, name, lines

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        self._first: float | None = None  # when the first step was done
        self._done = self._total = 0
        self._before: int | None = None
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def begin_epoch(self, epoch: int, epochs: int, steps: int, step: int = 0) -> None:
        """Starts an epoch.

        Args:
          epoch: number of the epoch, counted from 0.
          epochs: total number of epochs.
          steps: number of steps of an epoch.
          step: number of steps of this epoch that are already done.
        """
        self._epoch, self._epochs = epoch, epochs
        self._done, self._total = epoch * steps + step, epochs * steps
        if self._before is None:  # steps before a resumption do not count for the remaining time
            self._before = self._done
        every = max(1, epochs // self._lines) if self._lines else epochs
        if self._done > self._before and epoch % every == 0:
            elapsed, left = time.perf_counter() - self._start, self.seconds_left
            outlook = f", about {left:.0f} s left" if math.isfinite(left) else ""
            self.note(f"epoch {epoch}/{epochs}, {elapsed:.0f} s{outlook}")

    def step(self, losses: list[jax.Array]) -> None:
        """Counts a step.

        Args:
          losses: losses of all steps of the epoch so far, each [T] or [seeds, T].
        """
        self._done += 1
        if self._first is None:
            self._first = time.perf_counter()

    @property
    def seconds_left(self) -> float:
        """The time that the rest of the run takes, if it goes on as so far; infinite at first.

        The first step does not count, as its time is that of the compilation.
        """
        done = self._done - (self._before or 0) - 1
        if self._first is None or done < 1:
            return math.inf
        elapsed = time.perf_counter() - self._first
        return elapsed / done * (self._total - self._done)

    @property
    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        return self._done / self._total if self._total else 0.0

    def note(self, text: str) -> None:
        """Prints a line."""
        self._say(f"{self.name}: {text}")


class Display(NamedTuple):
    """How a command tells what it does."""

    say: Say
    progress: Callable[[str], Progress]
    """the name of a run -> its progress, a context manager"""
