"""What is measured of a program: figures, some of which have a goal."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

Verdict = Literal["met", "missed", "failed", ""]


class Goal(NamedTuple):
    """A target value, and a value that counts as a failure."""

    target: float
    fail: float

    def verdict(self, value: float) -> Verdict:
        """Compares a value with the goal: "met", "failed", or "missed" in between."""
        sign = 1 if self.target <= self.fail else -1
        if sign * value <= sign * self.target:
            return "met"
        return "missed" if sign * value < sign * self.fail else "failed"


class Figure(NamedTuple):
    """A figure; of programs that take turns it is the median over the rounds."""

    value: float
    spread: tuple[float, float] | None = None  # its smallest and largest value in a round
    goal: Goal | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the goal is met; empty without one."""
        return "" if self.goal is None else self.goal.verdict(self.value)

    def as_json(self) -> dict[str, Any]:
        """The value, and what else there is."""
        spread = {} if self.spread is None else {"spread": self.spread}
        goal = {} if self.goal is None else self.goal._asdict() | {"verdict": self.verdict}
        return {"value": self.value} | spread | goal


Quantity = Literal[
    "milliseconds",
    "over_ew",  # the time over that of equal weighting, which sums the losses or the gradients
    "over_unchecked",  # the time over that of the arithmetic without any check
    "over_triad",  # necessary bytes per second over those of a triad
    "their_milliseconds",  # of the program with which it is compared, of a peer for example
    "over_theirs",  # the time over theirs
    "their_over_ew",  # their time over that of their own step of equal weighting
    "compile_seconds",
    "first_step_seconds",  # of tracing, compilation and the first step
    "programs",  # that are compiled in several steps
    "memory",  # beyond that of equal weighting, in units of the shared parameters
    "parameters",
]


class Measurement(NamedTuple):
    """What was measured of one program."""

    subject: str  # a network, or a part of a training step
    num_tasks: int
    name: str  # the mode of a network's step, a method, or a peer
    figures: Mapping[Quantity, Figure]
    pairs: Sequence[tuple[float, float]] = ()  # seconds (its, theirs) in every round, if kept

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        figures = {quantity: figure.as_json() for quantity, figure in self.figures.items()}
        return self._asdict() | {"figures": figures}


def milliseconds(seconds: Sequence[float]) -> Figure:
    """The time of a program, from the seconds that it took in each round."""
    return Figure(1e3 * statistics.median(seconds))


def ratio(ours: Sequence[float], theirs: Sequence[float], goal: Goal | None = None) -> Figure:
    """The figures of a program over those of another in the same rounds."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Figure(statistics.median(ratios), (min(ratios), max(ratios)), goal)
