"""The derivative of T losses, cut at what all of them share.

A pullback of all losses at once, of one-hot cotangents, lets one task's 0/0 or √0 into every row:
its derivative is infinite, another task's cotangent there is zero, and 0 · ∞ is NaN.  So each loss
is pulled back alone, as `jax.grad` of it would do, through the equations that not all losses
share.  Where these end, at the *cut*, it has a cotangent for every value.  From there one function,
the shared part, takes the cotangents of all tasks to their rows: a function that can be run task by
task, in a loop or as a batch, or once for a weighted sum.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var

from dbmtl_jax.core._types import Array, PyTree
from dbmtl_jax.engine._convolution import run_transposable
from dbmtl_jax.engine._jaxpr import Values, contains, inlined, run, struct_of
from dbmtl_jax.engine._separate import separated
from dbmtl_jax.engine._shard_map import varying_axes, varying_over

Tasks = frozenset[int]


class Derivative(NamedTuple):
    """T losses as a linear function of changes of the parameters."""

    jaxpr: ClosedJaxpr  # flat tangents of the parameters -> T scalars
    readers: list[Tasks]  # for every parameter, the losses that may depend on it
    certain: list[Tasks]  # those that do, as no slicing lies between

    def contains(self, primitive: str) -> bool:
        """Whether a primitive of that name occurs."""
        return contains(self.jaxpr.jaxpr, primitive)


def derivative_of(
    fun: Callable[[PyTree], tuple[PyTree, PyTree]], params: PyTree
) -> tuple[PyTree, Derivative, PyTree]:
    """Losses, their derivative, and auxiliary outputs.

    Args:
      fun: params -> (losses, aux), losses being T scalars in a tree or one array [T].
      params: where to differentiate.

    Returns:
      What `fun` returned as losses, the derivative, and aux.
    """
    losses, linear, aux = jax.linearize(fun, params, has_aux=True)
    jaxpr = inlined(linear, params)
    if isinstance(losses, jax.Array):
        jaxpr = separated(jaxpr, lambda: inlined(lambda p: fun(p)[0], params))
    readers, certain = (
        [found.get(variable, frozenset()) for variable in jaxpr.jaxpr.invars]
        for found in (_readers(jaxpr.jaxpr), _readers(jaxpr.jaxpr, _SLICES))
    )
    return losses, Derivative(jaxpr, readers, certain), aux


@runtime_checkable
class Pull(Protocol):
    """A linear function of cotangents."""

    def __call__(self, cotangents: Sequence[Array], *, unrolled: bool = False) -> list[Array]:
        """Pulls back; `unrolled` says that this is neither within a loop nor within a branch."""


class Cut(NamedTuple):
    """A derivative in two pieces."""

    num_tasks: int
    # (task, cotangent of its loss) -> those of the values at the cut
    piece: Callable[[int, Array], list[Array]]
    of_task: Callable[[int], list[Array]]  # task -> `piece(task, 1)`, computed once
    own: Callable[[int], dict[int, Array]]  # task -> its loss's of the parameters beyond the cut
    push: Callable[[Sequence[Array]], list[Array]]  # tangents of the parameters -> of the cut
    push_all: Callable[
        [Sequence[Array]], list[Array]
    ]  # tangents of the parameters -> of the losses
    pull: Pull  # cotangents of the cut -> of the parameters
    at_parameters: bool  # whether losses part at parameters, before anything is computed of them


def cut(derivative: Derivative, is_shared: Sequence[bool]) -> Cut:
    """Cuts a derivative where the losses part.

    Args:
      derivative: of the losses.
      is_shared: for every parameter, whether it is to be differentiated through the cut; the others
        are inputs of the losses' own pieces alone.
    """
    jaxpr, consts = derivative.jaxpr.jaxpr, derivative.jaxpr.consts
    num_tasks = len(jaxpr.outvars)
    known: Values = dict(zip(jaxpr.constvars, consts, strict=True))
    shared, private = _pieces(jaxpr, known, num_tasks)
    made = [variable for equation in shared for variable in equation.outvars]
    read = {a for equation in private for a in equation.invars if isinstance(a, Var)}
    read |= {a for a in jaxpr.outvars if isinstance(a, Var)}
    through = [v for v, here in zip(jaxpr.invars, is_shared, strict=True) if here]
    beyond = [v for v, here in zip(jaxpr.invars, is_shared, strict=True) if not here]
    at_cut = [v for v in [*through, *made] if v in read]

    def push(tangents: Sequence[Array]) -> list[Array]:
        values = known | dict(zip(jaxpr.invars, tangents, strict=True))
        run(jaxpr, shared, values)
        return [values[v] for v in at_cut]

    def pull(cotangents: Sequence[Array], *, unrolled: bool = False) -> list[Array]:
        def pushed(*tangents: Array) -> list[Array]:
            values = known | dict(zip(jaxpr.invars, tangents, strict=True))
            run_transposable(jaxpr, shared, values, known, unrolled=unrolled)
            return [values[v] for v in at_cut]

        transposed = jax.linear_transpose(pushed, *map(struct_of, jaxpr.invars))
        return list(transposed(list(cotangents)))

    def push_all(tangents: Sequence[Array]) -> list[Array]:
        values = known | dict(zip(jaxpr.invars, tangents, strict=True))
        run(jaxpr, [*shared, *private], values)
        zero = jnp.zeros(())
        return [values[v] if isinstance(v, Var) and v not in known else zero for v in jaxpr.outvars]

    def piece_of(task: int, seed: Array, *, unrolled: bool = False) -> list[Array]:
        """The cotangents of one loss for the values at the cut and beyond."""
        output = jaxpr.outvars[task]
        inputs = [struct_of(v) for v in (*at_cut, *beyond)]
        if not isinstance(output, Var) or output in known:
            return [jnp.zeros(x.shape, x.dtype) for x in inputs]  # a constant
        needed = _needed(private, output)

        def loss(*tangents: Array) -> Array:
            values = known | dict(zip([*at_cut, *beyond], tangents, strict=True))
            run_transposable(jaxpr, needed, values, known, unrolled=unrolled)
            return values[output]

        seed = varying_over(varying_axes(output.aval), seed.astype(struct_of(output).dtype))
        return list(jax.linear_transpose(loss, *inputs)(seed))

    @functools.cache
    def whole(task: int) -> list[Array]:
        return piece_of(task, jnp.ones(()), unrolled=True)

    def own(task: int) -> dict[int, Array]:
        positions = [i for i, here in enumerate(is_shared) if not here]
        return dict(zip(positions, whole(task)[len(at_cut) :], strict=True))

    return Cut(
        num_tasks,
        lambda task, seed: piece_of(task, seed)[: len(at_cut)],
        lambda task: whole(task)[: len(at_cut)],
        own,
        push,
        push_all,
        pull,
        any(v in at_cut for v in through),
    )


_SLICES = frozenset({"dynamic_slice", "gather", "slice", "split", "unstack"})


def _readers(jaxpr: Jaxpr, blocked: frozenset[str] = frozenset()) -> dict[Var, Tasks]:
    """For every variable, the outputs that depend on it, not through primitives of these names."""
    found: dict[Var, Tasks] = {}
    for task, atom in enumerate(jaxpr.outvars):
        if isinstance(atom, Var):
            found[atom] = found.get(atom, frozenset()) | {task}
    for equation in reversed(jaxpr.eqns):
        if equation.primitive.name in blocked:
            continue
        tasks = frozenset().union(*(found.get(v, frozenset()) for v in equation.outvars))
        if tasks:
            for atom in equation.invars:
                if isinstance(atom, Var):
                    found[atom] = found.get(atom, frozenset()) | tasks
    return found


def _pieces(jaxpr: Jaxpr, known: Values, num_tasks: int) -> tuple[list[JaxprEqn], list[JaxprEqn]]:
    """The equations that all losses share, and the others; what is constant is evaluated.

    An equation with several outputs, some of which not all losses depend on, such as a scan that
    sums two losses, is not shared: pulled back alone, a loss has no cotangent for the others.
    """
    readers, everyone = _readers(jaxpr), frozenset(range(num_tasks))
    linear: set[Var] = set(jaxpr.invars)
    shared: list[JaxprEqn] = []
    private: list[JaxprEqn] = []
    for equation in jaxpr.eqns:
        tasks = [readers.get(v, frozenset()) for v in equation.outvars]
        if not any(tasks):
            continue
        if not any(isinstance(a, Var) and a in linear for a in equation.invars):
            run(jaxpr, [equation], known)
            continue
        linear |= set(equation.outvars)
        # With one task nothing is shared.
        is_shared = num_tasks > 1 and all(found in (everyone, frozenset()) for found in tasks)
        (shared if is_shared else private).append(equation)
    return shared, private


def _needed(equations: Sequence[JaxprEqn], output: Var) -> list[JaxprEqn]:
    """The equations that an output needs, in their order."""
    wanted, found = {output}, []
    for equation in reversed(equations):
        if any(v in wanted for v in equation.outvars):
            found.append(equation)
            wanted |= {a for a in equation.invars if isinstance(a, Var)}
    return found[::-1]
