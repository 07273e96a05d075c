"""Methods by name: stl, those of `METHODS`, chains of them, and methods with options.

A name is `[BALANCER+…]METHOD[@OPTION=VALUE,…]`: `log+pcgrad` takes the logarithm of the losses in
front of PCGrad, `cagrad@c=0.4` sets a keyword of the factory. DB-MTL's forgetting rate is
beta / k^sigma: `db_mtl@beta=0.9,sigma=0.5`, which is also what `db_mtl` alone means, and constant
where sigma is not given.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

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
    "mtadam": "MTAdam",
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

FORMER_NAMES: Mapping[str, str] = MappingProxyType({"scale_by_mtadam": "mtadam"})
"""Names under which older runs were recorded."""

REPLACES_ADAM = frozenset({"mtadam"})
"""Methods that are an optimizer themselves."""

ONE_BACKWARD_PASS = frozenset({"ew", *LOSS_BALANCERS})
"""Methods that look at losses alone: one pullback of a weighted sum does, if gradients stream."""

_OF_THE_RUN = ("seed", "steps_per_epoch")
"""Arguments of factories that a run sets."""

DB_MTL_DEFAULTS = MappingProxyType({"beta": 0.9, "sigma": 0.5})
"""The forgetting rate of the paper's grid that it recommends: insensitive, no bias in the limit."""


class Spec(NamedTuple):
    """A name taken apart."""

    balancers: tuple[str, ...]
    method: str
    options: Mapping[str, Any]


def parse(name: str) -> Spec:
    """Takes a name apart.

    Raises:
      UserError: if its options are not `OPTION=VALUE,…`.
    """
    chain, at, text = name.partition("@")
    *balancers, method = chain.split("+")
    options = {}
    for part in text.split(",") if at else ():
        option, equals, value = part.partition("=")
        if not (option and equals and value):
            raise UserError(f"--methods: {name!r}: expected OPTION=VALUE after @, found {part!r}")
        options[option] = _value(value)
    return Spec(tuple(balancers), method, options)


def current_name(name: str) -> str:
    """A name with the method's present name in the place of a former one."""
    return _renamed(name, FORMER_NAMES)


def recorded_names(name: str) -> list[str]:
    """The names under which runs of a method may have been recorded, the present one first."""
    return [name, *(_renamed(name, {new: old}) for old, new in FORMER_NAMES.items())]


def _renamed(name: str, names: Mapping[str, str]) -> str:
    chain, at, options = name.partition("@")
    *balancers, method = chain.split("+")
    return "+".join([*balancers, names.get(method, method)]) + at + options


def check(name: str) -> None:
    """Raises UserError unless `name` is a method or a chain of loss balancers and a method."""
    balancers, method, options = parse(name)
    if method not in dbmtl.METHODS and (balancers or method != BASELINE):
        known = ", ".join((BASELINE, *dbmtl.METHODS))
        raise UserError(f"--methods: unknown {method!r}, expected some of {known}")
    for balancer in balancers:
        if balancer not in LOSS_BALANCERS:
            raise UserError(
                f"--methods: {name!r} has {balancer!r} before a +, expected one of "
                f"{', '.join(LOSS_BALANCERS)}"
            )
    taken = _options_of(method)
    for option in options:
        if option not in taken:
            raise UserError(
                f"--methods: {name!r}: {method} has no option {option!r}, expected "
                f"{'one of ' + ', '.join(taken) if taken else 'none'}"
            )
    if options:
        try:
            build(name, 2)
        except (TypeError, ValueError) as error:
            raise UserError(f"--methods: {name!r}: {error}") from error


def display_name(name: str) -> str:
    """As the paper writes it: `log + PCGrad`, `DB-MTL (β = 0.9/√k)`."""
    balancers, method, options = parse(name)
    first = ["log" if b == "log" else DISPLAY_NAMES[b] for b in balancers if b in LOSS_BALANCERS]
    text = " + ".join([*first, DISPLAY_NAMES.get(method, method)])
    shown = dict(options)
    said = []
    if method == "db_mtl" and "beta" in shown:
        sigma = shown.pop("sigma", 0)
        power = {0: "", 0.5: "/√k", 1: "/k"}.get(sigma, f"/k^{sigma}")
        said.append(f"β = {shown.pop('beta')}{power}")
    if method == "db_mtl" and "scale" in shown:
        said.append(f"α = {shown.pop('scale')}")
    if shown.get("log_losses") is False:
        shown.pop("log_losses")
        said.append("no log")
    said += [f"{option} = {value}" for option, value in shown.items()]
    return f"{text} ({', '.join(said)})" if said else text


def order(name: str) -> tuple[int, str]:
    """A key that sorts methods in the paper's order, a chain after its last method."""
    names = list(DISPLAY_NAMES)
    method = parse(name).method
    return names.index(method) if method in names else len(names), name


def build(
    name: str, num_tasks: int, *, seed: int = 0, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """The method or chain of that name.

    Args:
      name: see `check`.
      num_tasks: T.
      seed: of the methods that draw random numbers.
      **options: given to those factories that have an argument of that name; for the method
        itself, what its name says comes first.
    """
    balancers, method, own = parse(name)
    factories = [*(LOSS_BALANCERS[b] for b in balancers), dbmtl.METHODS[method]]
    offered = options | {"seed": seed}
    arguments = [
        {k: v for k, v in offered.items() if k in inspect.signature(factory).parameters}
        for factory in factories
    ]
    arguments[-1] |= own
    if method == "db_mtl":
        rate = own if "beta" in own else DB_MTL_DEFAULTS | own
        sigma = rate.get("sigma", 0)
        arguments[-1].pop("sigma", None)
        arguments[-1]["beta"] = (
            dbmtl.inverse_power_schedule(rate["beta"], sigma) if sigma else rate["beta"]
        )
    made = [factory(num_tasks, **own) for factory, own in zip(factories, arguments, strict=True)]
    return made[0] if len(made) == 1 else optax.chain(*made)


def _options_of(method: str) -> list[str]:
    """The keywords of a method's factory that a name can set: plain values, which have defaults."""
    if method == BASELINE:
        return []
    parameters = inspect.signature(dbmtl.METHODS[method]).parameters.values()
    plain = [
        p.name
        for p in parameters
        if isinstance(p.default, bool | int | float | str) and p.name not in _OF_THE_RUN
    ]
    return ["sigma", *plain] if method == "db_mtl" else plain


def _value(text: str) -> Any:
    """A number or a bool where it reads as one."""
    try:
        value = json.loads(text.lower())
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, bool | int | float) else text
