"""The progress of long runs: a bar in a terminal, otherwise a line from time to time."""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator
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

from benchmarks.progress import Display, Progress

_LINES_PER_RUN = 10
_REFRESH_SECONDS = 0.5


class ProgressBar(Progress):
    """Shows the remaining time, the epoch, the steps per second and the losses of a run.

    Where the console is no terminal, it prints lines.
    """

    def __init__(self, console: Console, name: str) -> None:
        super().__init__(console.print, name, lines=0 if console.is_terminal else _LINES_PER_RUN)
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
        super().__enter__()
        self._task = self._bar.add_task(self.name, total=None, details="compiling")
        self._bar.start()
        self._shown, self._done_when_shown = self._start, 0
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def begin_epoch(self, epoch: int, epochs: int, steps: int, step: int = 0) -> None:
        """Starts an epoch, see `Progress`."""
        first = self._before is None
        super().begin_epoch(epoch, epochs, steps, step)
        if first:
            self._done_when_shown = self._done
            self._bar.reset(self._task, total=self._total, completed=self._done)

    def step(self, losses: list[jax.Array]) -> None:
        """Counts a step; from time to time shows the losses, which waits for the device.

        Args:
          losses: losses of all steps of the epoch so far, each [T] or [seeds, T]; those of several
            seeds are averaged.
        """
        super().step(losses)
        now = time.perf_counter()
        if not self._bar.disable and now - self._shown > _REFRESH_SECONDS:
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


def on_console(console: Console) -> Display:
    """The display that prints on a console."""
    return Display(console.print, functools.partial(ProgressBar, console))


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
