"""The progress of long runs: a bar in a terminal, otherwise a line from time to time."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

_LINES_PER_RUN = 10
_REFRESH_SECONDS = 0.5


class Progress:
    """Shows the remaining time, the epoch, the steps per second and the losses of a run."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            # The last column, as a narrow terminal cuts it off.
            TextColumn("{task.fields[details]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._task = self._bar.add_task(self._name, total=None, details="compiling")
        self._bar.start()
        self._start = self._shown = time.perf_counter()
        self._done = self._done_when_shown = 0
        self._first: float | None = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin_epoch(self, epoch: int, epochs: int, steps: int, step: int = 0) -> None:
        """Starts an epoch.

        Args:
          epoch: number of the epoch, counted from 0.
          epochs: total number of epochs.
          steps: number of steps of an epoch.
          step: number of steps of this epoch that are already done.
        """
        self._epoch, self._epochs = epoch, epochs
        self._done = epoch * steps + step
        if self._first is None:  # steps before a resumption do not count for the remaining time
            self._first, self._done_when_shown = self._done / steps, self._done
            self._bar.reset(self._task, total=steps * epochs, completed=self._done)
        every = max(1, epochs // _LINES_PER_RUN)
        if not self._console.is_terminal and epoch > self._first and epoch % every == 0:
            elapsed = time.perf_counter() - self._start
            left = elapsed / (epoch - self._first) * (epochs - epoch)
            self.note(f"epoch {epoch}/{epochs}, {elapsed:.0f} s, about {left:.0f} s left")

    def step(self, losses: list[jax.Array]) -> None:
        """Counts a step; from time to time shows the losses, which waits for the device.

        Args:
          losses: losses of all steps of the epoch so far, each [T] or [seeds, T]; those of several
            seeds are averaged.
        """
        self._done += 1
        now = time.perf_counter()
        if self._console.is_terminal and now - self._shown > _REFRESH_SECONDS:
            last = np.atleast_2d(losses[-1]).mean(axis=0)
            shown = " ".join(f"{loss:.2g}".removeprefix("0") for loss in last)
            now = time.perf_counter()
            rate = (self._done - self._done_when_shown) / (now - self._shown)
            self._shown, self._done_when_shown = now, self._done
            self._bar.update(
                self._task,
                completed=self._done,
                details=f"epoch {self._epoch + 1}/{self._epochs} {rate:.3g} steps/s losses {shown}",
            )

    def note(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._console.print(f"{self._name}: {text}")


@contextlib.contextmanager
def counting(console: Console, name: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows how many of `total` things are done; call the yielded function after each of them."""
    bar = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(name, total=total)
    every = max(1, total // _LINES_PER_RUN)
    done = itertools.count(1)

    def tick() -> None:
        bar.advance(task)
        if (count := next(done)) % every == 0 and not console.is_terminal:
            console.print(f"{name}: {count:,} of {total:,}")

    with bar:
        yield tick
