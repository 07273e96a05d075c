"""`METHODS`: every method of the library by name."""

import difflib
from collections.abc import Callable, Iterator, Mapping

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


METHODS: Mapping[str, Factory] = _Methods(
    (
        # in the paper's order
        ew,
        gls,
        rlw,
        # loss balancing
        uw,
        dwa,
        imtl_l,
        igbv2,
        # gradient balancing
        mgda,
        grad_norm,
        pcgrad,
        grad_drop,
        grad_vac,
        imtl_g,
        cagrad,
        mtadam,
        nash_mtl,
        meta_balance,
        moco,
        aligned_mtl,
        # both
        imtl,
        db_mtl,
    ),
    former_names={"scale_by_mtadam": scale_by_mtadam},
)
"""Name to factory `name(num_tasks, *, ..., labels=None)`, read-only: the methods that merge
stacked task gradients [T, *shape] into updates [*shape]."""
