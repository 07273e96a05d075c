"""Every method of the library by name, and the properties that each promises."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from dbmtl_jax.core import TaskTransformation
from dbmtl_jax.gradient_balancing import (
    aligned_mtl,
    cagrad,
    ew,
    grad_drop,
    grad_norm,
    grad_vac,
    imtl_g,
    meta_balance,
    mgda,
    moco,
    mtadam,
    nash_mtl,
    pcgrad,
)
from dbmtl_jax.hybrid_balancing import db_mtl, imtl
from dbmtl_jax.loss_balancing import dwa, gls, igbv2, imtl_l, rlw, uw

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


_TABLE: tuple[tuple[Factory, Properties], ...] = (
    # in the paper's order
    (ew, Properties("baseline", linear_under_scaling=True)),
    (gls, Properties("loss", linear_under_scaling=True)),
    (rlw, Properties("loss", permutation_equivariant=False, linear_under_scaling=True)),
    (uw, Properties("loss", linear_under_scaling=True)),
    (dwa, Properties("loss", linear_under_scaling=True)),
    (imtl_l, Properties("loss", linear_under_scaling=True)),
    (
        igbv2,
        Properties(
            "loss", permutation_equivariant=False, linear_under_scaling=True, scale_invariant=True
        ),
    ),
    (mgda, Properties("gradient", non_conflicting=True)),
    (grad_norm, Properties("gradient", linear_under_scaling=True)),
    (pcgrad, Properties("gradient", permutation_equivariant=False, linear_under_scaling=True)),
    (grad_drop, Properties("gradient", permutation_equivariant=False)),
    (grad_vac, Properties("gradient", permutation_equivariant=False, linear_under_scaling=True)),
    (imtl_g, Properties("gradient")),
    (cagrad, Properties("gradient")),
    (mtadam, Properties("gradient", permutation_equivariant=False, degree=0.0)),
    (nash_mtl, Properties("gradient", scale_invariant=True, non_conflicting=True, degree=0.0)),
    (meta_balance, Properties("gradient", permutation_equivariant=False)),
    (moco, Properties("gradient", degree=None)),
    (aligned_mtl, Properties("gradient")),
    (imtl, Properties("hybrid")),
    (db_mtl, Properties("hybrid", scale_invariant=True)),
)

METHODS: Mapping[str, Factory] = _Methods(
    tuple(factory for factory, _ in _TABLE), former_names={"scale_by_mtadam": scale_by_mtadam}
)
"""A read-only mapping of names to factories `name(num_tasks, *, ..., labels=None)`: all methods
that merge stacked task gradients [T, *shape] into updates [*shape]."""

PROPERTIES: Mapping[str, Properties] = MappingProxyType(
    {factory.__name__: properties for factory, properties in _TABLE}
)
"""A read-only mapping of the names in `METHODS` to what these methods promise."""
