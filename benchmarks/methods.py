"""Methods by name: stl, those of `METHODS`, and chains such as log+pcgrad."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import optax

import dbmtl_jax as dbmtl
from benchmarks.errors import UserError

BASELINE = "stl"
DISPLAY_NAMES = {
    "stl": "STL",
    "ew": "EW",
    "gls": "GLS",
    "rlw": "RLW",
    "uw": "UW",
    "dwa": "DWA",
    "imtl_l": "IMTL-L",
    "igbv2": "IGBv2",
    "mgda": "MGDA",
    "grad_norm": "GradNorm",
    "pcgrad": "PCGrad",
    "grad_drop": "GradDrop",
    "grad_vac": "GradVac",
    "imtl_g": "IMTL-G",
    "cagrad": "CAGrad",
    "scale_by_mtadam": "MTAdam",
    "nash_mtl": "Nash-MTL",
    "meta_balance": "MetaBalance",
    "moco": "MoCo",
    "aligned_mtl": "Aligned-MTL",
    "imtl": "IMTL",
    "db_mtl": "DB-MTL",
}
"""The paper's names of the methods, in its order."""

LOSS_BALANCERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "log": dbmtl.scale_by_log_loss,
        "gls": dbmtl.scale_by_gls,
        "rlw": dbmtl.scale_by_rlw,
        "uw": dbmtl.scale_by_uw,
        "dwa": dbmtl.scale_by_dwa,
        "imtl_l": dbmtl.scale_by_imtl_l,
        "igbv2": dbmtl.scale_by_igbv2,
    }
)
"""What may stand before the last + of a chain."""

REPLACES_ADAM = frozenset({"scale_by_mtadam"})
"""Methods that are an optimizer themselves."""


def check(name: str) -> None:
    """Raises UserError unless `name` is a method or a chain of loss balancers and a method."""
    *balancers, method = name.split("+")
    if method not in dbmtl.METHODS and name != BASELINE:
        known = ", ".join((BASELINE, *dbmtl.METHODS))
        raise UserError(f"--methods: unknown {method!r}, expected some of {known}")
    for balancer in balancers:
        if balancer not in LOSS_BALANCERS:
            raise UserError(
                f"--methods: {name!r} has {balancer!r} before a +, expected one of "
                f"{', '.join(LOSS_BALANCERS)}"
            )


def display_name(name: str) -> str:
    """As the paper writes it; for a chain, `log + PCGrad`."""
    *balancers, method = name.split("+")
    first = ["log" if b == "log" else DISPLAY_NAMES[b] for b in balancers if b in LOSS_BALANCERS]
    return " + ".join([*first, DISPLAY_NAMES.get(method, method)])


def order(name: str) -> tuple[int, str]:
    """A key that sorts methods in the paper's order, a chain after its last method."""
    names = list(DISPLAY_NAMES)
    method = name.split("+")[-1]
    return names.index(method) if method in names else len(names), name


def build(
    name: str, num_tasks: int, *, seed: int = 0, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """The method or chain of that name.

    Args:
      name: see `check`.
      num_tasks: T.
      seed: of the methods that draw random numbers.
      **options: given to those factories that have an argument of that name.
    """
    *balancers, method = name.split("+")
    factories = [*(LOSS_BALANCERS[b] for b in balancers), dbmtl.METHODS[method]]
    offered = options | {"seed": seed}
    made = [
        factory(
            num_tasks,
            **{k: v for k, v in offered.items() if k in inspect.signature(factory).parameters},
        )
        for factory in factories
    ]
    return made[0] if len(made) == 1 else optax.chain(*made)
