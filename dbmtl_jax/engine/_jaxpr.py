"""Everything in the library that reads jaxprs.

What it relies on may change.  `jax.extend.core` has the classes, but JAX promises neither names of
primitives nor those of their parameters: "scan" with `num_consts` and `num_carry`, "while" with
`cond_nconsts` and `body_nconsts`, "cond" with `branches`, "stop_gradient",
"conv_general_dilated", "custom_lin".  `tests/engine/test_jaxpr.py` fails where one of them changes.
All outputs of an unknown primitive are taken to depend on all of its inputs.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

Inputs = frozenset[int]
"""Positions of inputs."""


def contains(jaxpr: Jaxpr, primitive: str) -> bool:
    """Whether a primitive of that name occurs in a jaxpr or in one that it calls."""
    return any(
        equation.primitive.name == primitive
        or any(contains(inner, primitive) for inner in _called(equation))
        for equation in jaxpr.eqns
    )


def dependencies(jaxpr: Jaxpr) -> list[Inputs]:
    """For every output, the inputs with regard to which it may have a derivative.

    Through `jax.jit`, `jax.checkpoint`, custom derivatives, `lax.scan`, `lax.while_loop` and
    `lax.cond`; not through `lax.stop_gradient`, nor through integers.
    """
    return _outputs(jaxpr, [frozenset([i]) for i in range(len(jaxpr.invars))])


def _outputs(jaxpr: Jaxpr, inputs: Sequence[Inputs]) -> list[Inputs]:
    """What the outputs depend on, given what the inputs do."""
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(atom: Any) -> Inputs:
        return frozenset() if isinstance(atom, Literal) else known.get(atom, frozenset())

    for equation in jaxpr.eqns:
        found = _through(equation, [of(atom) for atom in equation.invars])
        for variable, reads in zip(equation.outvars, found, strict=True):
            known[variable] = reads if _has_derivative(variable.aval) else frozenset()
    return [of(atom) for atom in jaxpr.outvars]


def _has_derivative(aval: Any) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.inexact)


def _through(equation: JaxprEqn, inputs: list[Inputs]) -> list[Inputs]:
    """What the outputs of an equation depend on."""
    name, params = equation.primitive.name, equation.params
    size = len(equation.outvars)
    called = list(_called(equation))
    if name == "stop_gradient":
        return [frozenset()] * size
    if name == "scan":
        constants, carried = params["num_consts"], params["num_carry"]
        return _loop(called[0], inputs, constants, carried)
    if name == "while":
        constants = params["cond_nconsts"]
        body = _plain(params["body_jaxpr"])
        carried = len(body.outvars)
        return _loop(body, inputs[constants:], params["body_nconsts"], carried)
    if name == "cond":
        branches = [_outputs(branch, inputs[1:]) for branch in called]
        return [frozenset().union(*reads) for reads in zip(*branches, strict=True)]
    if len(called) == 1:
        (inner,) = called
        if len(inner.invars) == len(inputs) and len(inner.outvars) == size:
            return _outputs(inner, inputs)
    return [frozenset().union(*inputs)] * size


def _loop(body: Jaxpr, inputs: list[Inputs], constants: int, carried: int) -> list[Inputs]:
    """Of a loop whose body maps (constants, carry, rest) to (carry, rest)."""
    while True:
        outputs = _outputs(body, inputs)
        carry = inputs[constants : constants + carried]
        grown = [old | new for old, new in zip(carry, outputs[:carried], strict=True)]
        if grown == carry:
            return outputs[:carried] + outputs[carried:]
        inputs = [*inputs[:constants], *grown, *inputs[constants + carried :]]


def _called(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """The jaxprs among the parameters of an equation."""
    for leaf in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
        if _is_jaxpr(leaf):
            yield _plain(leaf)


def _is_jaxpr(x: Any) -> bool:
    return isinstance(x, Jaxpr | ClosedJaxpr)


def _plain(jaxpr: Jaxpr | ClosedJaxpr) -> Jaxpr:
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
