"""Figures beside what they are to be."""

from typing import Literal, NamedTuple

Verdict = Literal["met", "missed", "failed", ""]


class Goal(NamedTuple):
    """A figure to reach, and one that counts as a failure."""

    target: float
    fail: float

    def verdict(self, value: float) -> Verdict:
        """Whether the target is met, the failure level reached, or neither."""
        sign = 1 if self.target <= self.fail else -1
        if sign * value <= sign * self.target:
            return "met"
        return "missed" if sign * value < sign * self.fail else "failed"


def judged(goal: Goal | None, value: float) -> tuple[float | None, float | None, Verdict]:
    """(target, fail, verdict) for a record; no goal, no verdict."""
    return (None, None, "") if goal is None else (*goal, goal.verdict(value))
