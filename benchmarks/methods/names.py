"""The parts of a method's name, and the name as it is shown."""

import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from benchmarks.errors import UserError
from benchmarks.methods.lists import DISPLAY_NAMES, FORMER_NAMES, LISTS, LOSS_BALANCERS, VARIANTS

DB_MTL_DEFAULTS = MappingProxyType({"beta": 0.9, "sigma": 0.5})
"""The forgetting rate that the paper recommends."""


Wrt = Literal["parameters", "representation"]
Measured = Literal["", "last"]


MOST_STEPS = 2**31
"""Counters of steps are int32, so that every number in a name is smaller."""


class Form(NamedTuple):
    """What a method reads of the gradients, when, and how far its steps go."""

    wrt: Wrt = "parameters"
    measured: Measured = ""
    """empty for all shared parameters"""
    refresh: int = 1
    """the number of steps for which weights are kept"""
    rate: float = 1
    """the learning rate of its runs, as a multiple of that of the others"""


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
    def is_usual(self) -> bool:
        """Whether the method reads all gradients in every step, at the common learning rate."""
        return self.form == Form()

    @property
    def is_plain(self) -> bool:
        """Whether this is a method alone, as it is by default, at whatever learning rate."""
        return not self.balancers and not self.options and self.form._replace(rate=1) == Form()


def parse(name: str) -> Spec:
    """Splits a name into its parts.

    Raises:
      UserError: if the options do not have the form `OPTION=VALUE,…`, and for a value that one of
        the options of `Form` cannot have.
    """
    chain, at, text = name.partition("@")
    *balancers, method = chain.split("+")
    options = {}
    for part in text.split(",") if at else ():
        option, equals, value = part.partition("=")
        if not (option and equals and value):
            raise UserError(f"--methods: {name!r}: expected OPTION=VALUE after @, found {part!r}")
        if option in options:
            raise UserError(f"--methods: {name!r}: expected {option} once, found it twice")
        options[option] = _value(value)
    form = Form(**{key: options.pop(key) for key in Form._fields if key in options})
    _check_form(name, form)
    return Spec(tuple(balancers), method, options, form)


def _check_form(name: str, form: Form) -> None:
    def expect(wanted: str, found: Any) -> UserError:
        return UserError(f"--methods: {name!r}: expected {wanted}, found {found!r}")

    for key, allowed in (("wrt", get_args(Wrt)), ("measured", get_args(Measured))):
        if (found := getattr(form, key)) not in allowed:
            raise expect(f"{key}={allowed[-1]}", found)
    if type(form.refresh) is not int or not 1 <= form.refresh < MOST_STEPS:
        raise expect("a number of steps, 1 or more, after refresh=", form.refresh)
    if type(form.rate) not in (int, float) or not 0 < form.rate < math.inf:
        raise expect("a positive number after rate=", form.rate)


def spelt_out(names: Sequence[str], *, shares_representation: bool = True) -> tuple[str, ...]:
    """The present names of methods, with the methods of `LISTS` for the names of lists.

    Those of the paper are in the forms of `VARIANTS`, see `for_network`.  Of two names of the same
    method, such as `ew` and `ew@rate=1`, the first stays.
    """
    found: list[str] = []
    for name in names:
        listed = [VARIANTS.get(each, each) for each in LISTS.get(name, ())]
        found += for_network(listed, shares_representation) or [current_name(name)]
    unique: dict[str, Spec] = {}
    for name in found:
        if (spec := parse(name)) not in unique.values():
            unique[name] = spec
    return tuple(unique)


def for_network(names: Sequence[str], shares_representation: bool) -> list[str]:
    """The methods as a network can have them.

    If its heads share no representation, none reads its gradients.
    """
    return [
        spec.method if (spec := parse(n)).form.wrt == "representation" and not shares_representation
        else n
        for n in names
    ]  # fmt: skip


def row_name(name: str) -> str:
    """What a row of the paper's tables calls a method, in whatever form it was trained."""
    plain = {variant: method for method, variant in VARIANTS.items()}
    return plain.get(name, name)


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
    if form.rate != 1:
        said.append(f"{form.rate:g} × the learning rate")
    return f"{text} ({', '.join(said)})" if said else text


def order(name: str) -> tuple[int, str]:
    """A sort key for the order of the paper; a chain follows the method that it ends with."""
    names = list(DISPLAY_NAMES)
    method = parse(name).method
    return names.index(method) if method in names else len(names), name


def _value(text: str) -> Any:
    """Converts a text to a number or a bool if possible."""
    try:
        value = json.loads(text.lower())
    except (ValueError, RecursionError):  # no JSON, or nothing that Python could hold
        return text
    return value if isinstance(value, bool | int | float) else text
