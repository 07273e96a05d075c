"""Every method of the library by name, and the properties that each promises."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from dbmtl_jax.core import TaskTransformation
from dbmtl_jax.gradient_balancing import (
    aligned_mtl,
    cagrad,
    con_fig,
    dual_proj,
    ew,
    excess_mtl,
    fair_grad,
    grad_drop,
    grad_norm,
    grad_vac,
    imtl_g,
    meta_balance,
    mgda,
    moco,
    modo,
    mtadam,
    nash_mtl,
    pcd,
    pcgrad,
    sdmgrad,
    upgrad,
)
from dbmtl_jax.hybrid_balancing import db_mtl, imtl
from dbmtl_jax.loss_balancing import constant, dwa, famo, gls, igbv2, imtl_l, rlw, stch, uw

Factory = Callable[..., TaskTransformation]

scale_by_mtadam = mtadam
"""The former name of `mtadam`."""


class _Methods(Mapping[str, Factory]):
    """A read-only mapping that also answers to former names, which it does not list."""

    def __init__(self, factories: tuple[Factory, ...], former_names: dict[str, Factory]) -> None:
        self._factories = {factory.__name__: factory for factory in factories}
        self._former_names = former_names

    def __getitem__(self, name: str) -> Factory:
        try:
            return (self._factories | self._former_names)[name]
        except KeyError:
            close = difflib.get_close_matches(str(name).lower(), self._factories, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise KeyError(
                f"no method {name!r}{hint} (expected one of {', '.join(self._factories)})"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __len__(self) -> int:
        return len(self._factories)

    def __repr__(self) -> str:
        return f"METHODS({', '.join(self)})"


class Properties(NamedTuple):
    """What a method promises; the tests assert it with `dbmtl_jax.testing`.

    The properties hold for the first step, before the method has learnt or averaged anything, and
    with default options.  A(G) is the update that the method makes of the gradients G, [T, n].
    """

    family: Literal["baseline", "loss", "gradient", "hybrid"]
    permutation_equivariant: bool = True
    """The update does not depend on the order of the tasks."""
    linear_under_scaling: bool = False
    """A(diag(c) G) is linear in c [T] > 0."""
    scale_invariant: bool = False
    """Multiplying any task's loss and gradient by a number > 0 does not change the update."""
    non_conflicting: bool = False
    """The update has a nonnegative inner product with every gradient, up to rounding errors."""
    degree: float | None = 1.0
    """d such that A(s G) = s^d A(G) for s > 0; None if there is no such d."""
    heads: Literal["unweighted", "loss weight", "weight", "Adam"] = "unweighted"
    """What multiplies the gradient of a task's own parameters: nothing, the weight that a loss
    balancer gives the loss, or the weight of the shared gradient; "Adam": they get Adam's step."""
    passes: Literal["1", "T", "T + 1"] = "T + 1"
    """Backward passes of a step whose gradients stream: one for methods that need no gradient of a
    single task, T where each is used when it comes, and one more for the sum of those whose weights
    are known only when all have been seen, which saves storing them."""


_OF_LOSSES = Properties("loss", linear_under_scaling=True, heads="loss weight", passes="1")
_OF_GRADIENTS = Properties("gradient")

_TABLE: tuple[tuple[Factory, Properties], ...] = (
    # in the paper's order
    (ew, Properties("baseline", linear_under_scaling=True, passes="1")),
    (gls, _OF_LOSSES),
    (rlw, _OF_LOSSES._replace(permutation_equivariant=False)),
    (uw, _OF_LOSSES),
    (dwa, _OF_LOSSES),
    (imtl_l, _OF_LOSSES),
    (igbv2, _OF_LOSSES._replace(permutation_equivariant=False, scale_invariant=True)),
    (mgda, _OF_GRADIENTS._replace(non_conflicting=True, heads="weight")),
    (grad_norm, _OF_GRADIENTS._replace(linear_under_scaling=True, heads="weight")),
    (pcgrad, _OF_GRADIENTS._replace(permutation_equivariant=False, linear_under_scaling=True)),
    (grad_drop, _OF_GRADIENTS._replace(permutation_equivariant=False, passes="T")),
    (grad_vac, _OF_GRADIENTS._replace(permutation_equivariant=False, linear_under_scaling=True)),
    (imtl_g, _OF_GRADIENTS),
    (cagrad, _OF_GRADIENTS),
    (
        mtadam,
        _OF_GRADIENTS._replace(permutation_equivariant=False, degree=0.0, heads="Adam", passes="T"),
    ),
    (
        nash_mtl,
        _OF_GRADIENTS._replace(
            scale_invariant=True, non_conflicting=True, degree=0.0, heads="weight"
        ),
    ),
    (meta_balance, _OF_GRADIENTS._replace(permutation_equivariant=False, passes="T")),
    (moco, _OF_GRADIENTS._replace(degree=None, passes="T")),
    (aligned_mtl, _OF_GRADIENTS),
    (imtl, Properties("hybrid", heads="loss weight")),
    (db_mtl, Properties("hybrid", scale_invariant=True, heads="loss weight", passes="T")),
    # not in the paper
    (upgrad, _OF_GRADIENTS._replace(linear_under_scaling=True, non_conflicting=True)),
    (dual_proj, _OF_GRADIENTS._replace(non_conflicting=True)),
    (con_fig, _OF_GRADIENTS),
    (
        fair_grad,
        _OF_GRADIENTS._replace(
            scale_invariant=True, non_conflicting=True, degree=0.0, heads="weight"
        ),
    ),
    (sdmgrad, _OF_GRADIENTS),
    (pcd, _OF_GRADIENTS._replace(permutation_equivariant=False)),
    (modo, _OF_GRADIENTS._replace(degree=None, passes="T")),
    (
        excess_mtl,
        _OF_GRADIENTS._replace(linear_under_scaling=True, heads="weight", passes="T"),
    ),
    (famo, _OF_LOSSES),
    (stch, _OF_LOSSES),
    (constant, _OF_LOSSES),
)

METHODS: Mapping[str, Factory] = _Methods(
    tuple(factory for factory, _ in _TABLE), former_names={"scale_by_mtadam": scale_by_mtadam}
)
"""A read-only mapping of names to factories `name(num_tasks, *, ..., labels=None)`: all methods
that merge stacked task gradients [T, *shape] into updates [*shape].  The paper's come first."""

PROPERTIES: Mapping[str, Properties] = MappingProxyType(
    {factory.__name__: properties for factory, properties in _TABLE}
)
"""A read-only mapping of the names in `METHODS` to what these methods promise."""
