"""Timing programs in turns, so that a change in the machine's speed falls on all of them."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax

Name = TypeVar("Name", bound=Hashable)


def in_turns(programs: Mapping[Name, Callable[[], Any]], rounds: int) -> dict[Name, list[float]]:
    """Seconds of every program in every round; one more round goes first and is not counted.

    Each program is called without arguments and must return the arrays to wait for. In its turn it
    is called twice, and the second call counts: the first finds caches and free memory as another
    program left them, and a step of training finds what its predecessor left.
    """
    times: dict[Name, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            jax.block_until_ready(program())
            begin = time.perf_counter()
            jax.block_until_ready(program())
            times[name].append(time.perf_counter() - begin)
    return {name: seconds[1:] for name, seconds in times.items()}
