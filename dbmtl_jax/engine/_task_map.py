"""How a function runs over T tasks: unrolled, in a loop, or as a batch."""

import logging
from collections.abc import Callable
from typing import Literal, TypedDict, get_args

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._types import PyTree

_LOGGER = logging.getLogger("dbmtl_jax")

Mode = Literal["auto", "unroll", "loop", "vmap"]


class Schedule(TypedDict, total=False):
    """How the tasks' backward passes run: the options that all engine functions have."""

    chunk_size: int | None
    mode: Mode
    stream: bool


# On CPUs a batch of pullbacks lowers to transposes and copies of every [T, in, out] gradient, and
# convolutions in a loop are slower, those in a `jax.checkpoint` very much.  Unrolled pullbacks
# have neither fault; beyond this many tasks a loop's smaller program and memory win.
_MAX_UNROLLED_TASKS = 12


def check_options(mode: str, chunk_size: int | None, stream: bool = False) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode: expected one of {get_args(Mode)}, found {mode!r}")
    if chunk_size is not None:
        _checks.check_size("chunk_size", chunk_size)
        if mode == "unroll":
            raise ValueError('chunk_size: expected None with mode="unroll", found a number')
        if stream:
            raise ValueError("chunk_size: expected None with stream=True, found a number")
    if stream and mode == "vmap":
        raise ValueError('mode: expected "auto", "unroll" or "loop" with stream=True, found "vmap"')


def choose(
    mode: Mode,
    chunk_size: int | None,
    num_tasks: int,
    contains: Callable[[str], bool],
    *,
    stream: bool = False,
) -> tuple[Mode, int | None]:
    """Settles "auto", and the number of tasks that a loop takes at a time.

    `contains` tells whether a primitive of that name occurs in what is run.

    The logger `dbmtl_jax` tells what "auto" came to, at the level DEBUG.
    """
    if chunk_size is not None:
        return ("vmap", None) if chunk_size >= num_tasks else ("loop", chunk_size)
    if mode != "auto":
        return mode, None
    chosen, reason = _automatic(num_tasks, contains, stream)
    _LOGGER.debug('mode="auto" is "%s" for %d tasks: %s', chosen, num_tasks, reason)
    return chosen, None


def _automatic(num_tasks: int, contains: Callable[[str], bool], stream: bool) -> tuple[Mode, str]:
    backend = jax.default_backend()
    if backend != "cpu":
        if stream:
            return "loop", f"streaming on {backend}"
        return "vmap", f"a batch on {backend}"
    if not stream and num_tasks <= _MAX_UNROLLED_TASKS:
        return "unroll", f"up to {_MAX_UNROLLED_TASKS} on a CPU"
    if contains("conv_general_dilated"):
        return "unroll", "convolutions on a CPU"
    return "loop", "no convolutions, on a CPU"


def map_tasks(
    fun: Callable[[PyTree], PyTree], inputs: PyTree, chosen: tuple[Mode, int | None]
) -> PyTree:
    """Stacks `fun` of every slice of the inputs' first axis."""
    mode, batch_size = chosen
    if mode == "vmap":
        return jax.vmap(fun)(inputs)
    if mode == "loop":
        return jax.lax.map(fun, inputs, batch_size=batch_size)
    num_tasks = leading_axis(inputs)
    rows = [fun(jax.tree.map(lambda x, t=t: x[t], inputs)) for t in range(num_tasks)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def leading_axis(args: PyTree) -> int:
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(args)]
    sizes = {shape[:1] for shape in shapes}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(f"args: expected arrays of shape (T, ...) with one T, found {shapes}")
    return shapes[0][0]
