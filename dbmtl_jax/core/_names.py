"""Tasks that have names: their number, and mappings by name in the order of the tasks.

With names everything that has an entry for each task is a mapping, and the tasks' order is that of
the sorted names, in which JAX flattens a dict.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dbmtl_jax.core._types import Array, Label, PerTask, PyTree

RESERVED = ("shared", "frozen")
"""What labels mean something else by."""


STATIC = "under optax.inject_hyperparams list it in `static_args`"
"""What to do about an option that cannot be traced."""


def is_int(value: Any) -> bool:
    """Whether a value is an int, not a bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


class NumTasks(int):
    """T, and the names of the tasks if they have any."""

    names: tuple[str, ...] | None

    def __new__(cls, number: int, names: Iterable[str] | None = None) -> "NumTasks":
        self = super().__new__(cls, number)
        self.names = None if names is None else tuple(sorted(names))
        return self


def check_num_tasks(num_tasks: Any) -> NumTasks:
    """T out of an int or a sequence of names.

    Raises:
      TypeError: for anything else.
      ValueError: for T < 1, for names that are not unique, and for "shared" and "frozen".
    """
    if isinstance(num_tasks, NumTasks):
        return num_tasks
    if isinstance(num_tasks, list | tuple):
        return NumTasks(len(num_tasks), check_names("num_tasks", num_tasks))
    if not is_int(num_tasks):
        hint = f"; {STATIC}" if isinstance(num_tasks, jax.Array) else ""
        raise TypeError(
            f"num_tasks: expected an int or a sequence of names, found {num_tasks!r}{hint}"
        )
    if num_tasks < 1:
        raise ValueError(f"num_tasks: expected at least 1, found {num_tasks}")
    return NumTasks(int(num_tasks))


def check_names(what: str, names: Iterable[Any]) -> list[str]:
    """The names, or an error that says why they cannot be names of tasks.

    Raises:
      TypeError: for a name that is no string.
      ValueError: for no name, a name twice, or a reserved one.
    """
    found = list(names)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"{what}: expected names of tasks (strings), found {name!r}")
        if name in RESERVED:
            raise ValueError(f"{what}: {name!r} is a label and cannot be the name of a task")
    if not found:
        raise ValueError(f"{what}: expected at least one name, found none")
    if len(set(found)) < len(found):
        raise ValueError(f"{what}: expected every name once, found {found}")
    return found


def in_order(what: str, values: PyTree, num_tasks: int) -> PyTree:
    """A mapping by name as a list in the order of the tasks; without names the value itself.

    Raises:
      TypeError: for a mapping where the tasks have no names, or the other way round.
      ValueError: for missing or unknown names.
    """
    names = getattr(num_tasks, "names", None)
    if names is None:
        if isinstance(values, Mapping):
            raise TypeError(
                f"{what}: expected an array of shape ({num_tasks},), as num_tasks={num_tasks} has "
                f"no names, found a mapping of {', '.join(map(str, values))}; pass the names as "
                "num_tasks"
            )
        return values
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{what}: expected a mapping of the tasks {', '.join(names)}, as num_tasks has these "
            f"names, found {type(values).__name__}"
        )
    missing, unknown = set(names) - set(values), set(values) - set(names)
    if missing or unknown:
        found = [
            f"{kind} {', '.join(map(repr, sorted(some, key=str)))}"
            for kind, some in (("missing", missing), ("unknown", unknown))
            if some
        ]
        raise ValueError(f"{what}: expected the tasks {', '.join(names)}: {'; '.join(found)}")
    return [values[name] for name in names]


def numbers(
    name: str, given: Array | Sequence[float] | Mapping[str, float], num_tasks: int
) -> PerTask:
    """Numbers [T] that a user gives in a sequence, or by the names of the tasks.

    They stay NumPy's unless they are traced: jax.numpy would trace them within a trace, so that
    they could not be checked, and would start JAX's backends before a program is run.

    Raises:
      TypeError: for a mapping where the tasks have no names, or the other way round, and for what
        is no number.
      ValueError: for another shape, and for a number that is not finite.
    """
    found = in_order(name, given, num_tasks)
    array = as_numbers(name, found, f"{num_tasks} numbers")
    if array.shape != (num_tasks,):
        raise ValueError(f"{name}: expected shape ({num_tasks},), found {array.shape}")
    return array


def as_numbers(name: str, given: Any, expected: str) -> Any:
    """What a user gave as an array, NumPy's unless it is traced.

    Raises:
      TypeError: for what is no array of numbers.
      ValueError: for a number that is not finite.
    """
    known = not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(given))
    try:
        array: Any = np.asarray(given, float) if known else jnp.asarray(given, float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected {expected}, found {given!r}") from error
    if known and not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: expected finite numbers, found {given}")
    return array


def by_name(values: Sequence[Any], num_tasks: int) -> PyTree:
    """A list in the order of the tasks as a dict by name; without names the list itself."""
    names = getattr(num_tasks, "names", None)
    return list(values) if names is None else dict(zip(names, values, strict=True))


def named(label: Label, num_tasks: int) -> Label:
    """A label with the task's name in the place of its index, if the tasks have names."""
    names = getattr(num_tasks, "names", None)
    return label if names is None or isinstance(label, str) else names[label]
