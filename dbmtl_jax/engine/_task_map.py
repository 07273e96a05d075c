"""How a function runs over T tasks: unrolled, in a loop, or as a batch."""

import functools
import logging
from collections.abc import Callable
from typing import Literal, NamedTuple, TypedDict, get_args

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


class Way(NamedTuple):
    """How a function runs over tasks."""

    mode: Mode
    batch_size: int | None = None  # of a loop that takes some tasks at a time


class Chosen(NamedTuple):
    """The way on each platform that a program may be compiled for."""

    cpu: Way
    tpu: Way
    other: Way

    @classmethod
    def everywhere(cls, mode: Mode, batch_size: int | None = None) -> "Chosen":
        """The same way on all of them."""
        return cls(*(Way(mode, batch_size),) * 3)

    def run(self, function: Callable[[Way], PyTree]) -> PyTree:
        """`function` of the way on the platform that the program is compiled for."""
        there = {
            name: functools.partial(function, way)
            for name, way in (("cpu", self.cpu), ("tpu", self.tpu))
            if way != self.other
        }
        if not there:
            return function(self.other)
        if self.cpu == self.tpu:
            there["tpu"] = there["cpu"]  # JAX traces a function once
        return jax.lax.platform_dependent(**there, default=functools.partial(function, self.other))


# On CPUs a batch of pullbacks lowers to transposes and copies of every [T, in, out] gradient, and
# convolutions in a loop are slower, those in a `jax.checkpoint` very much.  On TPUs a batch takes
# more memory, and moves more through it.  Unrolled pullbacks have none of these faults; beyond so
# many tasks a loop's smaller program wins: on CPUs its arrays are used again while they are in the
# cache, where all unrolled ones together may not fit.
_MAX_UNROLLED_ON_CPUS, _MAX_UNROLLED_ON_TPUS = 4, 12


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
) -> Chosen:
    """Settles "auto", and the number of tasks that a loop takes at a time.

    `contains` tells whether a primitive of that name occurs in what is run.

    The logger `dbmtl_jax` tells what "auto" came to, at the level DEBUG.
    """
    if chunk_size is not None:
        if chunk_size >= num_tasks:
            return Chosen.everywhere("vmap")
        return Chosen.everywhere("loop", chunk_size)
    if mode != "auto":
        return Chosen.everywhere(mode)
    has_convolutions = contains("conv_general_dilated")
    cpu: Mode
    tpu: Mode
    other: Mode
    if stream:
        cpu, tpu, other = "unroll" if has_convolutions else "loop", "loop", "loop"
    else:
        cpu = "unroll" if has_convolutions or num_tasks <= _MAX_UNROLLED_ON_CPUS else "loop"
        tpu = "unroll" if num_tasks <= _MAX_UNROLLED_ON_TPUS else "loop"
        other = "vmap"
    _LOGGER.debug(
        'mode="auto" is "%s" on CPUs, "%s" on TPUs and "%s" elsewhere: %d tasks, %s convolutions%s',
        *(cpu, tpu, other, num_tasks, "with" if has_convolutions else "no"),
        ", streaming" if stream else "",
    )
    return Chosen(*(Way(mode) for mode in (cpu, tpu, other)))


def map_tasks(fun: Callable[[PyTree], PyTree], inputs: PyTree, way: Way) -> PyTree:
    """Stacks `fun` of every slice of the inputs' first axis."""
    mode, batch_size = way
    if mode == "vmap":
        return jax.vmap(fun)(inputs)
    if mode == "loop":
        return _loop(fun, inputs, batch_size)
    num_tasks = len(jax.tree.leaves(inputs)[0])
    rows = [fun(jax.tree.map(lambda x, t=t: x[t], inputs)) for t in range(num_tasks)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def _loop(fun: Callable[[PyTree], PyTree], inputs: PyTree, batch_size: int | None) -> PyTree:
    if batch_size is None:
        return jax.lax.map(fun, inputs)
    # In chunks JAX divides by the size of what comes out, so what has no entries stays outside.
    row = jax.eval_shape(lambda x: fun(jax.tree.map(lambda leaf: leaf[0], x)), inputs)

    def with_entries(x: PyTree) -> PyTree:
        return jax.tree.map(lambda like, leaf: leaf if like.size else None, row, fun(x))

    found = jax.lax.map(with_entries, inputs, batch_size=batch_size)
    num_tasks = len(jax.tree.leaves(inputs)[0])
    return jax.tree.map(
        lambda like, leaf: (
            jnp.zeros((num_tasks, *like.shape), like.dtype) if leaf is None else leaf
        ),
        row,
        found,
    )
