"""What optax, JAX and this library expect of every transformation of task gradients."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from dbmtl_jax.testing import _clauses
from dbmtl_jax.testing._pending import given_pending
from dbmtl_jax.testing._properties import Factory
from dbmtl_jax.testing._streaming_clause import check_representation, check_streaming
from dbmtl_jax.testing._subject import Subject, subject_of

_CHECKS: Mapping[str, Callable[[Subject], None]] = MappingProxyType(
    {
        "jit": _clauses.check_jit,
        "scan": _clauses.check_scan,
        "state": _clauses.check_state,
        "dtypes": _clauses.check_dtypes,
        "extra arguments": _clauses.check_extra_arguments,
        "checkpoints": _clauses.check_checkpoints,
        "masks": _clauses.check_masks,
        "bad tasks": _clauses.check_bad_tasks,
        "no task left": _clauses.check_no_task_left,
        "streaming": check_streaming,
        "representation": check_representation,
        "own parameters": _clauses.check_own_parameters,
    }
)

CONTRACT: Mapping[str, str] = MappingProxyType(
    {name: check.__doc__ or "" for name, check in _CHECKS.items()}
)
"""The clauses of the contract, name to what is asserted, for `assert_contract`."""


def assert_contract(
    factory: Factory,
    num_tasks: int = 3,
    *,
    clauses: Sequence[str] | None = None,
    stream: bool = False,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Asserts all that optax, JAX and this library expect of a transformation of task gradients.

    It compiles once and gives the same under `jax.jit`, `lax.scan`, `jax.vmap` and with a donated
    state.  Its state is a tree of arrays whose shapes and dtypes never change, and survives a
    checkpoint.  Updates keep their dtype, and unknown keywords are ignored.  What the rows of
    masked tasks contain does not matter.  If the transformation merges the tasks' gradients, a bad
    task is treated as if masked and is counted, the update is zero when no task is left, pending
    gradients give the same as stacked ones, gradients of a representation are weighed like those of
    parameters or refused, and own parameters of an absent task do not move.

    Args:
      factory: `num_tasks -> transformation`.  Own parameters are checked if it has an argument
        `labels`.
      num_tasks: T, the number of tasks.
      clauses: names from `CONTRACT`; None: all.
      stream: whether it takes pending gradients alone, as `refresh_weights` makes methods that do;
        all gradients that it is given are then pending.
      rtol: the relative tolerance of comparisons in which the order of additions may differ.
      atol: the absolute tolerance of these.

    Raises:
      AssertionError: if a clause does not hold; the message names it.
      ValueError: for an unknown name of a clause.

    Example:
      >>> import jax, jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_contract(dbmtl.pcgrad, clauses=["masks"])
      >>> def mean(num_tasks):
      ...   def update(grads, state, params=None, **extra):
      ...     return jax.tree.map(lambda g: g.mean(axis=0), grads), state
      ...   return optax.GradientTransformationExtraArgs(lambda params: (), update)
      >>> testing.assert_contract(mean, clauses=["masks"])
      Traceback (most recent call last):
      ...
      AssertionError: masks: What stands in the rows of masked tasks, NaN included, ...
    """
    if stream:
        factory = given_pending(factory)
    subject = subject_of(factory, num_tasks, rtol, atol)
    for name in CONTRACT if clauses is None else clauses:
        if name not in CONTRACT:
            raise ValueError(f"clauses: expected some of {', '.join(CONTRACT)}, found {name!r}")
        try:
            _CHECKS[name](subject)
        # Whatever goes wrong: JAX itself refuses a state that changes its dtype, for example.
        except Exception as error:
            raise AssertionError(f"{name}: {CONTRACT[name]}\n{error}") from error
