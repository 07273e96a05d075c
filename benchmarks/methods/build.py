"""Makes the method of a name."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import jax
import optax

import dbmtl_jax as dbmtl
from benchmarks.errors import UserError
from benchmarks.files import expected
from benchmarks.files.expected import FLAG, Kind
from benchmarks.methods.lists import (
    BASELINE,
    LISTS,
    LOSS_BALANCERS,
    OF_OWN_RATE,
    OF_TWO_BATCHES,
    ONE_BACKWARD_PASS,
)
from benchmarks.methods.names import DB_MTL_DEFAULTS, MOST_STEPS, Form, parse

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
    if method in (BASELINE, *LISTS):
        if name == BASELINE:
            return
        what = "the single-task baseline" if method == BASELINE else "a list of methods"
        raise UserError(
            f"--methods: {name!r}: expected {method!r} alone, as {what} has no options and "
            "nothing in front of it"
        )
    if method not in dbmtl.METHODS:
        names = ", ".join((BASELINE, *dbmtl.METHODS))
        raise UserError(
            f"--methods: {name!r}: unknown {method!r}, expected some of {names}, or "
            f"{' or '.join(LISTS)}"
        )
    for balancer in balancers:
        if balancer not in LOSS_BALANCERS:
            raise UserError(
                f"--methods: {name!r} has {balancer!r} before a +, expected one of "
                f"{', '.join(LOSS_BALANCERS)}"
            )
    if method in OF_TWO_BATCHES and (balancers or form.wrt == "representation"):
        reason = (
            "a loss balancer sees one" if balancers else "the representation's gradients are of one"
        )
        raise UserError(f"--methods: {name!r}: {method} reads two batches, of which {reason}")
    if len(set(balancers)) < len(balancers):
        raise UserError(f"--methods: {name!r}: expected each loss balancer once")
    if balancers and _balances_losses(method, options):
        raise UserError(
            f"--methods: {name!r}: {method} balances the losses itself, expected no loss balancer "
            "in front of it"
        )
    _check_options(name, method, options, form)
    if options or form != Form():
        try:
            _try_out(name)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"--methods: {name!r}: {error}") from error


def _check_options(name: str, method: str, options: Mapping[str, Any], form: Form) -> None:
    """Raises UserError for options that the method does not have, and for values of other types."""
    defaults = _options_of(method)
    known = [*defaults, *Form._fields]
    if "measured" not in inspect.signature(dbmtl.METHODS[method]).parameters:
        known.remove("measured")
    for option in [*options, *["measured"] * bool(form.measured)]:
        if option not in known:
            raise UserError(
                f"--methods: {name!r}: {method} has no option {option!r}, expected one of "
                f"{', '.join(known)}"
            )
    for option, value in options.items():
        expected.check(value, _kind_of(defaults[option]), f"--methods: {name!r}: {option}")


def _kind_of(default: bool | int | float | str) -> Kind:
    """What can stand for an option with such a default."""
    if isinstance(default, bool):
        return FLAG
    if isinstance(default, str):
        return Kind("a number or a word", lambda value: not isinstance(value, bool))
    return Kind(
        f"a number of a size below {MOST_STEPS}",
        lambda value: type(value) in (int, float) and abs(value) < MOST_STEPS,
    )


def _try_out(name: str) -> None:
    """Traces a step of the method on two tasks, which raises what its options lead to."""
    tx, kind = build(name, 2), gradients_of(name)
    engine = dbmtl.value_and_task_grads(lambda w: [w.sum(), (w**2).sum()], stream=kind == "pending")

    def step(params):
        losses, grads = engine(params)
        halves = {"other_grads": [grads]} if kind == "halves" else {}
        return tx.update(grads, tx.init(params), params, losses=losses, **halves)[0]

    jax.eval_shape(step, jax.ShapeDtypeStruct((3,), "float32"))


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


def _options_of(method: str) -> dict[str, bool | int | float | str]:
    """The options that a name can set: arguments of the factory with a plain default value."""
    parameters = inspect.signature(dbmtl.METHODS[method]).parameters.values()
    plain = {
        p.name: p.default
        for p in parameters
        if isinstance(p.default, bool | int | float | str) and p.name not in _OF_THE_RUN
    }
    return {"sigma": 0.0, **DB_MTL_DEFAULTS, **plain} if method == "db_mtl" else plain
