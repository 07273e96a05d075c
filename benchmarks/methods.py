"""Methods by name: stl, the methods of `dbmtl_jax.METHODS`, chains of methods, and options.

A name has the form `[BALANCER+…]METHOD[@OPTION=VALUE,…]`. For example, `log+pcgrad` applies PCGrad
to the logarithms of the losses, and `cagrad@c=0.4` sets the argument `c` of the factory of CAGrad.
The forgetting rate of DB-MTL in step k is beta / k^sigma, where sigma is 0 if only beta is given;
`db_mtl` alone means `db_mtl@beta=0.9,sigma=0.5`.

Three options of any method make it cheaper: `wrt=representation` (it reads the gradients of the
representation), `measured=last` (those of the last shared layer) and `refresh=K` (its weights are
computed anew in every K-th step).
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import optax

import dbmtl_jax as dbmtl
from benchmarks.errors import UserError
from benchmarks.files import expected

BASELINE = "stl"
PAPER: Mapping[str, str] = MappingProxyType(
    {
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
)
"""The methods that the paper compares, in the order of its tables, and their names there."""

BEYOND: Mapping[str, str] = MappingProxyType(
    {
        "upgrad": "UPGrad",
        "dual_proj": "DualProj",
        "con_fig": "ConFIG",
        "fair_grad": "FairGrad",
        "sdmgrad": "SDMGrad",
        "pcd": "PCD",
        "modo": "MoDo",
        "excess_mtl": "ExcessMTL",
        "famo": "FAMO",
        "stch": "STCH",
    }
)
"""Methods that the paper does not compare, and their names in their own papers."""

DISPLAY_NAMES: Mapping[str, str] = MappingProxyType(
    {**PAPER, **BEYOND, "constant": "constant weights"}
)
"""What tables and figures call the methods."""

LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"all": tuple(PAPER), "beyond": tuple(BEYOND)}
)
"""Names on the command line that stand for several methods."""

LOSS_BALANCERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "log": dbmtl.scale_by_log_loss,
        "gls": dbmtl.scale_by_gls,
        "rlw": dbmtl.scale_by_rlw,
        "uw": dbmtl.scale_by_uw,
        "dwa": dbmtl.scale_by_dwa,
        "imtl_l": dbmtl.scale_by_imtl_l,
        "igbv2": dbmtl.scale_by_igbv2,
        "famo": dbmtl.scale_by_famo,
        "stch": dbmtl.scale_by_stch,
    }
)
"""The loss balancers that can precede a method in a chain, by name."""

FORMER_NAMES: Mapping[str, str] = MappingProxyType({"scale_by_mtadam": "mtadam"})
"""Names under which older runs were recorded."""

REPLACES_ADAM = frozenset({"mtadam"})
"""Methods that are optimizers themselves, so that no Adam follows them."""

ONE_BACKWARD_PASS = frozenset(
    name for name, promises in dbmtl.PROPERTIES.items() if promises.passes == "1"
)
"""Methods that use only the losses: one backward pass of a weighted sum is sufficient for them."""

OF_TWO_BATCHES = frozenset({"modo"})
"""Methods that compare the gradients of two independent batches, the halves of a step's batch."""

_OF_THE_RUN = ("seed", "steps_per_epoch")
"""Arguments of the factories that every run sets itself, so that names cannot set them."""

DB_MTL_DEFAULTS = MappingProxyType({"beta": 0.9, "sigma": 0.5})
"""The forgetting rate that the paper recommends."""


Gradients = Literal["stacked", "pending", "representation", "halves"]
"""How a method gets the task gradients: as arrays, to be computed when it reads them, those of the
representation, to be pulled back once, or as arrays of either half of the batch."""

Wrt = Literal["parameters", "representation"]
Measured = Literal["", "last"]


class Form(NamedTuple):
    """What a method reads of the gradients, and when."""

    wrt: Wrt = "parameters"
    measured: Measured = ""
    """empty for all shared parameters"""
    refresh: int = 1
    """the number of steps for which weights are kept"""


class Spec(NamedTuple):
    """The parts of a name."""

    balancers: tuple[str, ...]
    """loss balancers that precede the method"""
    method: str
    """name of the method without options"""
    options: Mapping[str, Any]
    """options of the method"""
    form: Form = Form()

    @property
    def is_exact(self) -> bool:
        """Whether the method reads all gradients in every step."""
        return self.form == Form()


def parse(name: str) -> Spec:
    """Splits a name into its parts.

    Raises:
      UserError: if the options do not have the form `OPTION=VALUE,…`, and for a value that one of
        the three that make it cheaper cannot have.
    """
    chain, at, text = name.partition("@")
    *balancers, method = chain.split("+")
    options = {}
    for part in text.split(",") if at else ():
        option, equals, value = part.partition("=")
        if not (option and equals and value):
            raise UserError(f"--methods: {name!r}: expected OPTION=VALUE after @, found {part!r}")
        options[option] = _value(value)
    form = Form(**{key: options.pop(key) for key in Form._fields if key in options})
    for key, allowed in (("wrt", get_args(Wrt)), ("measured", get_args(Measured))):
        if getattr(form, key) not in allowed:
            raise UserError(f"--methods: {name!r}: expected {key}={allowed[-1]}")
    if type(form.refresh) is not int or form.refresh < 1:
        raise UserError(f"--methods: {name!r}: expected a number of steps after refresh=")
    return Spec(tuple(balancers), method, options, form)


def gradients_of(name: str) -> Gradients:
    """How the method of a name gets the task gradients."""
    form, method = parse(name).form, parse(name).method
    if form.wrt == "representation":
        return "representation"
    if method in OF_TWO_BATCHES:
        return "halves"
    cheap = form.measured or form.refresh > 1 or method in ONE_BACKWARD_PASS
    return "pending" if cheap else "stacked"


def spelt_out(names: Sequence[str]) -> tuple[str, ...]:
    """The present names of methods, with the methods of `LISTS` for the names of lists."""
    found = (each for name in names for each in LISTS.get(name, (current_name(name),)))
    return tuple(dict.fromkeys(found))


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
    """Raises UserError unless `name` is a known method or a chain that ends with one."""
    expected.check(name, expected.NAME, "--methods")
    balancers, method, options, form = parse(name)
    if method not in dbmtl.METHODS and (balancers or method != BASELINE):
        names = ", ".join((BASELINE, *dbmtl.METHODS))
        raise UserError(
            f"--methods: unknown {method!r}, expected some of {names}, or {' or '.join(LISTS)}"
        )
    if balancers and method in OF_TWO_BATCHES:
        raise UserError(
            f"--methods: {name!r}: {method} reads two batches, of which a loss balancer sees one"
        )
    if len(set(balancers)) < len(balancers):
        raise UserError(f"--methods: {name!r}: expected each loss balancer once")
    if balancers and _balances_losses(method, options):
        raise UserError(
            f"--methods: {name!r}: {method} balances the losses itself, expected no loss balancer "
            "in front of it"
        )
    for balancer in balancers:
        if balancer not in LOSS_BALANCERS:
            raise UserError(
                f"--methods: {name!r} has {balancer!r} before a +, expected one of "
                f"{', '.join(LOSS_BALANCERS)}"
            )
    taken = _options_of(method)
    known = [*taken, *Form._fields]
    factory = dbmtl.METHODS.get(method)
    if form.measured and (
        factory is None or "measured" not in inspect.signature(factory).parameters
    ):
        raise UserError(f"--methods: {name!r}: {method} has no option 'measured'")
    for option in options:
        if option not in taken:
            raise UserError(
                f"--methods: {name!r}: {method} has no option {option!r}, expected "
                f"{'none' if method == BASELINE else 'one of ' + ', '.join(known)}"
            )
    if options or form != Form():
        try:
            build(name, 2)
        except (TypeError, ValueError) as error:
            raise UserError(f"--methods: {name!r}: {error}") from error


def _balances_losses(method: str, options: Mapping[str, Any]) -> bool:
    """Whether a method weighs tasks by their losses, which a balancer in front has not scaled."""
    family = dbmtl.PROPERTIES[method].family
    return family in ("loss", "hybrid") and options.get("log_losses") is not False


def display_name(name: str) -> str:
    """The name as in the paper, such as `log + PCGrad` or `DB-MTL (β = 0.9/√k)`."""
    balancers, method, options, form = parse(name)
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
    said += ["by ∂ℓ/∂z"] * (form.wrt == "representation") + ["by last layer"] * bool(form.measured)
    if form.refresh > 1:
        said.append(f"every {form.refresh} steps")
    return f"{text} ({', '.join(said)})" if said else text


def order(name: str) -> tuple[int, str]:
    """A sort key for the order of the paper; a chain follows the method that it ends with."""
    names = list(DISPLAY_NAMES)
    method = parse(name).method
    return names.index(method) if method in names else len(names), name


def build(
    name: str, num_tasks: int, *, seed: int = 0, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """Makes the method or chain of a name.

    Args:
      name: a name that `check` accepts.
      num_tasks: number of tasks.
      seed: seed of methods that draw random numbers.
      **options: passed to the factories that have an argument of that name; options in the name of
        the method take precedence.  `last_shared` says which paths `measured=last` measures.
    """
    balancers, method, own, form = parse(name)
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
    if form.measured:
        last_shared = options.get("last_shared", lambda path: True)
        arguments[-1]["measured"] = dbmtl.labels_by_path(last_shared)
    made = [factory(num_tasks, **own) for factory, own in zip(factories, arguments, strict=True)]
    if form.refresh > 1:
        made[-1] = dbmtl.refresh_weights(made[-1], form.refresh)
    return made[0] if len(made) == 1 else optax.chain(*made)


def _options_of(method: str) -> list[str]:
    """The options that a name can set: arguments of the factory with a plain default value."""
    if method == BASELINE:
        return []
    parameters = inspect.signature(dbmtl.METHODS[method]).parameters.values()
    plain = [
        p.name
        for p in parameters
        if isinstance(p.default, bool | int | float | str) and p.name not in _OF_THE_RUN
    ]
    return ["sigma", "beta", *plain] if method == "db_mtl" else plain


def _value(text: str) -> Any:
    """Converts a text to a number or a bool if possible."""
    try:
        value = json.loads(text.lower())
    except (ValueError, RecursionError):  # no JSON, or nothing that Python could hold
        return text
    return value if isinstance(value, bool | int | float) else text
