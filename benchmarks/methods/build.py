"""Makes the method of a name."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import optax

import dbmtl_jax as dbmtl
from benchmarks.errors import UserError
from benchmarks.files import expected
from benchmarks.methods.lists import (
    BASELINE,
    LISTS,
    LOSS_BALANCERS,
    OF_OWN_RATE,
    OF_TWO_BATCHES,
    ONE_BACKWARD_PASS,
)
from benchmarks.methods.names import DB_MTL_DEFAULTS, Form, parse

Gradients = Literal["stacked", "pending", "representation", "halves"]
"""How a method gets the task gradients: as arrays, to be computed when it reads them, those of the
representation, to be pulled back once, or as arrays of either half of the batch."""


_OF_THE_RUN = ("seed", "steps_per_epoch")
"""Arguments of the factories that every run sets itself, so that names cannot set them."""


def gradients_of(name: str) -> Gradients:
    """How the method of a name gets the task gradients."""
    form, method = parse(name).form, parse(name).method
    if form.wrt == "representation":
        return "representation"
    if method in OF_TWO_BATCHES:
        return "halves"
    cheap = form.measured or form.refresh > 1 or method in ONE_BACKWARD_PASS
    return "pending" if cheap else "stacked"


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
    if method == BASELINE and form != Form():
        own = next(
            option for option, value in form._asdict().items() if value != getattr(Form(), option)
        )
        raise UserError(f"--methods: {name!r}: {BASELINE} has no option {own!r}, expected none")
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
        {
            k: v
            for k, v in offered.items()
            if k in inspect.signature(factory).parameters
            and not (k == "weight_optimizer" and factory in OF_OWN_RATE)
        }
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
