"""What the library reads of jaxprs, here and in `_convolution`, `_derivative` and `_separate`.

What it relies on may change.  `jax.extend.core` has the classes, but JAX promises neither names of
primitives nor those of their parameters.  `tests/engine/test_jaxpr.py` fails if one of those that
are used changes: "jit" with `jaxpr`, "conv_general_dilated" and "custom_lin".  The parameters of a
convolution are those of `jax.lax.conv_general_dilated`; `tests/engine/test_convolution.py` guards
them.  The names in `_separate.py` only decide which losses are told apart;
`tests/engine/test_isolation.py` guards them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from dbmtl_jax.core._types import Array

Atom = Var | Literal

Values = dict[Var, Array]
"""What is known of the variables of a jaxpr."""


def contains(jaxpr: Jaxpr, primitive: str) -> bool:
    """Whether a primitive of that name occurs in a jaxpr or in one that it calls."""
    return any(
        equation.primitive.name == primitive
        or any(contains(inner, primitive) for inner in _called(equation))
        for equation in jaxpr.eqns
    )


def inlined(fun: Callable[..., object], *args: object) -> ClosedJaxpr:
    """The jaxpr of a function, with what it calls by `jax.jit` written out."""
    closed = jax.make_jaxpr(fun)(*args)
    if not any(equation.primitive.name in _JIT for equation in closed.jaxpr.eqns):
        return closed

    def written_out(*inputs: Array) -> list[Array]:
        return evaluate(closed.jaxpr, closed.consts, inputs)

    return jax.make_jaxpr(written_out)(*map(struct_of, closed.jaxpr.invars))


def evaluate(jaxpr: Jaxpr, consts: Sequence[Array], inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a jaxpr, with what it calls by `jax.jit` written out."""
    values: Values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        if equation.primitive.name in _JIT:
            called = equation.params["jaxpr"]
            arguments = [value_of(atom, values) for atom in equation.invars]
            outputs = evaluate(called.jaxpr, called.consts, arguments)
            values.update(zip(equation.outvars, outputs, strict=True))
        else:
            run(jaxpr, [equation], values)
    return [value_of(atom, values) for atom in jaxpr.outvars]


def run(jaxpr: Jaxpr, equations: Sequence[JaxprEqn], values: Values) -> None:
    """Evaluates equations of a jaxpr, in their order, and adds what they define to `values`."""
    made = {v: None for equation in equations for v in equation.outvars if type(v) is Var}
    read = {a: None for equation in equations for a in equation.invars if isinstance(a, Var)}
    inputs = [variable for variable in read if variable not in made]
    piece = jaxpr.replace(constvars=[], invars=inputs, outvars=list(made), eqns=list(equations))
    outputs = jaxpr_as_fun(ClosedJaxpr(piece, []))(*(values[variable] for variable in inputs))
    values.update(zip(made, outputs, strict=True))


def value_of(atom: Atom, values: Values) -> Array:
    """The value of a variable or a literal."""
    return atom.val if isinstance(atom, Literal) else values[atom]


def struct_of(variable: Var) -> jax.ShapeDtypeStruct:
    """The type of a variable: shape, dtype, and how it lies on a mesh if there is one."""
    aval: Any = variable.aval
    where = {}
    if not aval.sharding.mesh.empty:
        where["sharding"] = aval.sharding
        if aval.manual_axis_type.varying:
            where["manual_axis_type"] = aval.manual_axis_type
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, **where)


_JIT = frozenset({"jit", "pjit"})


def _called(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """The jaxprs among the parameters of an equation."""
    for leaf in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
        if _is_jaxpr(leaf):
            yield leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf


def _is_jaxpr(x: object) -> bool:
    return isinstance(x, Jaxpr | ClosedJaxpr)
