"""How fast a step is, as ratios of programs that are timed in turns."""

from benchmarks.perf.steps import perf

__all__ = ["perf"]
