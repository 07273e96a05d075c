"""Times programs in turns, so that a change in the machine's speed affects all of them alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax

Name = TypeVar("Name", bound=Hashable)


def in_turns(programs: Mapping[Name, Callable[[], Any]], rounds: int) -> dict[Name, list[float]]:
    """The seconds of every program in every round, after one warm-up round.

    Each program is called without arguments and must return the arrays to wait for. In every turn
    it is called twice, and only the second call is timed. The first one brings caches and memory
    into the state that a training step normally finds.
    """
    times: dict[Name, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            jax.block_until_ready(program())
            begin = time.perf_counter()
            jax.block_until_ready(program())
            times[name].append(time.perf_counter() - begin)
    return {name: seconds[1:] for name, seconds in times.items()}
