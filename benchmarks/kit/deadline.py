"""The time that a command may take."""

import math
import time
from collections.abc import Callable

from benchmarks.errors import UserError


class OutOfTime(Exception):  # noqa: N818  # not an error
    """Ends work whose time is over, after what it needs to go on has been written."""


class Deadline:
    """When a command must have ended; time runs from here.

    Args:
      minutes: the time that the command may take.
      at_least: the shortest time with which it gets anywhere, in minutes.
      clock: seconds, as `time.monotonic`.

    Raises:
      UserError: if there are too few minutes.
    """

    def __init__(
        self, minutes: float, *, at_least: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not math.isfinite(minutes) or minutes < at_least or minutes <= 0:
            raise UserError(f"--minutes: expected at least {at_least:g}, found {minutes:g}")
        self.seconds = 60 * minutes
        self._clock, self._end = clock, clock() + self.seconds

    @property
    def left(self) -> float:
        """The seconds that are left, negative when time is over."""
        return self._end - self._clock()
