"""Goals for measured values, and whether they are met."""

from typing import Literal, NamedTuple

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


def judged(goal: Goal | None, value: float) -> tuple[float | None, float | None, Verdict]:
    """The fields (target, fail, verdict) of a record; they are empty without a goal."""
    return (None, None, "") if goal is None else (*goal, goal.verdict(value))
