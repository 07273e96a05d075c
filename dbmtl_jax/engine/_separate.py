"""An array of losses taken apart into T scalars.

`jnp.stack`, `jnp.concatenate`, `jnp.array`, `.at[].set`, and arithmetic entry by entry behind them
are seen through, so that the derivative of one entry involves no other loss.  Of any other
expression an entry is a slice, and all entries depend on all that the array depends on.
"""

import math
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from dbmtl_jax.core._types import Array
from dbmtl_jax.engine._jaxpr import Atom, Values, inlined, run, struct_of, value_of

_ENTRY_BY_ENTRY: dict[str, Callable[..., Array]] = {
    "add": operator.add,
    "add_any": operator.add,
    "convert_element_type": lambda x: x,
    "copy": lambda x: x,
    "div": operator.truediv,
    "mul": operator.mul,
    "neg": operator.neg,
    "select_n": lambda which, *cases: jax.lax.select_n(jnp.asarray(which), *cases),
    "sub": operator.sub,
}
_SCATTERS = frozenset({"scatter", "scatter-add"})


def separated(linear: ClosedJaxpr, primal: Callable[[], ClosedJaxpr]) -> ClosedJaxpr:
    """A linear jaxpr with one output [T] as one with T scalar outputs.

    Args:
      linear: the derivative of an array of losses; nothing in it is called by `jax.jit`.
      primal: gives the jaxpr of the losses themselves, in which positions are constants.
    """
    scatters = _scatters(linear.jaxpr)
    positions = _positions(primal()) if scatters else []
    if len(positions) != len(scatters):
        positions = []  # they cannot be told which is which

    def entries(*tangents: Array) -> list[Array]:
        values: Values = dict(zip(linear.jaxpr.constvars, linear.consts, strict=True))
        values.update(zip(linear.jaxpr.invars, tangents, strict=True))
        run(linear.jaxpr, linear.jaxpr.eqns, values)
        return _Separation(linear, values, positions).entries(linear.jaxpr.outvars[0])

    return inlined(entries, *map(struct_of, linear.jaxpr.invars))


class _Separation:
    """Finds the entries of an array by the equations that made it."""

    def __init__(
        self, linear: ClosedJaxpr, values: Values, positions: Sequence[int | None]
    ) -> None:
        self._made = {v: equation for equation in linear.jaxpr.eqns for v in equation.outvars}
        self._values = values
        self._positions = list(positions)

    def entries(self, atom: Atom) -> list[Array]:
        """The entries of a variable of shape [n]."""
        value = value_of(atom, self._values)
        size = value.shape[0]
        equation = None if isinstance(atom, Literal) else self._made.get(atom)
        found = None if equation is None else self._through(equation, size)
        # What depends on no parameter is a constant, of which a slice is as good.
        return [value[i] for i in range(size)] if found is None else found

    def _through(self, equation: JaxprEqn, size: int) -> list[Array] | None:
        name, inputs = equation.primitive.name, equation.invars
        shapes = [np.shape(value_of(atom, self._values)) for atom in inputs]
        if name == "stack" and set(shapes) == {()}:
            return [value_of(atom, self._values) for atom in inputs]
        if name == "concatenate":
            return [entry for atom in inputs for entry in self.entries(atom)]
        if name in ("broadcast_in_dim", "reshape") and shapes[0] in ((), (1,)) and size == 1:
            value = value_of(inputs[0], self._values)
            return [value] if shapes[0] == () else self.entries(inputs[0])
        if name in _SCATTERS and len(inputs) == 3 and shapes[0] == (size,):
            return self._scattered(equation, size)
        if name in _ENTRY_BY_ENTRY and all(shape in ((), (size,)) for shape in shapes):
            columns = [
                [value_of(atom, self._values)] * size if shape == () else self.entries(atom)
                for atom, shape in zip(inputs, shapes, strict=True)
            ]
            dtype = struct_of(equation.outvars[0]).dtype
            apply = _ENTRY_BY_ENTRY[name]
            return [
                jnp.asarray(apply(*(column[i] for column in columns)), dtype) for i in range(size)
            ]
        return None

    def _scattered(self, equation: JaxprEqn, size: int) -> list[Array] | None:
        """`.at[position].set(value)`, or `.add`."""
        operand, _, update = equation.invars
        value = value_of(update, self._values)
        if not self._positions or value.size != 1:
            return None
        position = self._positions.pop(0)
        entries = self.entries(operand)
        if position is None or not 0 <= position < size:
            return None
        scalar = value.reshape(()) if value.shape else value
        is_set = equation.primitive.name == "scatter"
        entries[position] = scalar if is_set else entries[position] + scalar
        return entries


def _scatters(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The scatters that make the one output of a jaxpr, from the last to the first."""
    made = {variable: equation for equation in jaxpr.eqns for variable in equation.outvars}
    found: list[JaxprEqn] = []

    def walk(atom: Atom) -> None:
        equation = None if isinstance(atom, Literal) else made.get(atom)
        if equation is None:
            return
        if equation.primitive.name in _SCATTERS:
            found.append(equation)
            walk(equation.invars[0])
        elif equation.primitive.name in _ENTRY_BY_ENTRY:
            for operand in equation.invars:
                walk(operand)

    walk(jaxpr.outvars[0])
    return found


def _positions(primal: ClosedJaxpr) -> list[int | None]:
    """Where the scatters of `_scatters` write.

    Inside of `jax.jit` positions are traced as all else; here they are computed from constants.
    """
    known: Values = {
        variable: constant
        for variable, constant in zip(primal.jaxpr.constvars, primal.consts, strict=True)
        if not isinstance(constant, jax.core.Tracer) and np.size(constant) <= 1
    }
    for equation in primal.jaxpr.eqns:
        small = all(math.prod(struct_of(v).shape) <= 1 for v in equation.outvars)
        if small and all(isinstance(a, Literal) or a in known for a in equation.invars):
            with jax.ensure_compile_time_eval():
                run(primal.jaxpr, [equation], known)
    found: list[int | None] = []
    for equation in _scatters(primal.jaxpr):
        index = equation.invars[1]
        constant = index.val if isinstance(index, Literal) else known.get(index)
        found.append(None if constant is None else int(np.ravel(constant)[0]))
    return found
