"""What every transformation of this library checks about its input.

Static mistakes (shapes, trees, options) raise while tracing and name the argument, what was
found and what was expected.  Traced mistakes (a loss or gradient that is not finite) cannot
raise inside a compiled program; `_transformation` says how they are handled there.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dbmtl_jax.core import _labels
from dbmtl_jax.core._labels import FROZEN, SHARED
from dbmtl_jax.core._names import STATIC, check_num_tasks, in_order, is_int
from dbmtl_jax.core._types import Array, Labels, Mask, PerTask, PyTree

__all__ = [
    "Step",
    "check_arrays",
    "check_count",
    "check_function",
    "check_functions",
    "check_losses",
    "check_num_tasks",
    "check_option",
    "check_range",
    "check_same_shapes",
    "check_same_tree",
    "check_size",
    "check_task_grads",
    "check_task_mask",
    "check_update",
]


class Step(NamedTuple):
    """The checked input of one step."""

    labels: PyTree  # one label per leaf
    losses: PerTask | None  # float32 at least
    mask: Mask


def check_update(
    num_tasks: int,
    labels: Labels,
    updates: Any,
    params: Any,
    losses: Any,
    task_mask: Any,
) -> Step:
    """Checks all that a transformation's `update` is called with; see the functions below."""
    labels = _labels.resolve(labels, updates if params is None else params, num_tasks)
    check_task_grads(updates, labels, num_tasks, params)
    return Step(labels, check_losses(losses, num_tasks), check_task_mask(task_mask, num_tasks))


def check_range(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
    or_inf: bool = False,
) -> None:
    """Raises unless a static number lies in [low, high], without low or high where these are open.

    It must be finite, unless `or_inf` says that infinity means something.

    JAX arrays are let through: `optax.inject_hyperparams` passes traced values, which have no
    value to compare.
    """
    if isinstance(value, jax.Array) and value.shape == () and value.dtype != jnp.bool_:
        return
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name}: expected a number, found {value!r}")
    above = low < value if open_low else low <= value
    open_high |= math.isinf(high) and not or_inf
    if not above or not (value < high if open_high else value <= high):
        first = "(" if open_low else "["
        last = ")" if open_high else "]"
        raise ValueError(
            f"{name}: expected a number in {first}{low:g}, {high:g}{last}, found {value}"
        )


def check_count(name: str, value: Any, low: int = 1) -> None:
    """Raises unless a number of steps is an int of at least `low`.

    Integer arrays are let through, traced ones unchecked (`optax.inject_hyperparams`).
    """
    is_array = isinstance(value, jax.Array | np.ndarray) and value.shape == ()
    is_count = np.issubdtype(value.dtype, np.integer) if is_array else is_int(value)
    if not is_count:
        raise TypeError(f"{name}: expected an int, found {value!r}")
    if not isinstance(value, jax.core.Tracer) and value < low:
        raise ValueError(f"{name}: expected an int of at least {low}, found {value}")


def check_size(name: str, value: Any, low: int = 1) -> int:
    """The size of an array as an int.

    Raises:
      TypeError: for anything else than an int or an integer array that is not traced.
      ValueError: for less than `low`.
    """
    check_count(name, value, low)
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name}: expected an int that is not traced, found {value}; {STATIC}")
    return int(value)


def check_arrays(name: str, tree: PyTree) -> None:
    """Raises TypeError, naming the leaf, for a leaf that is neither numbers in an array nor one."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        is_array = hasattr(leaf, "dtype") and hasattr(leaf, "shape")
        is_key = is_array and jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        if is_key or not (is_array or isinstance(leaf, int | float)):
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)}: expected an array of numbers, found "
                f"{leaf.dtype if is_key else type(leaf).__name__}; keep it out of {name} "
                "(Equinox: eqx.partition)"
            )


def check_function(name: str, function: Any) -> None:
    """Raises TypeError, naming the argument, for anything but a function."""
    if not callable(function):
        raise TypeError(f"{name}: expected a function, found {function!r}")


def check_functions(**functions: Any) -> None:
    """Raises TypeError, naming the argument, unless each is a function or None."""
    for name, function in functions.items():
        if function is not None:
            check_function(name, function)


def check_option(name: str, value: Any, options: Sequence[Any]) -> None:
    """Raises ValueError unless `value` is one of the options."""
    if isinstance(value, jax.Array):
        raise TypeError(f"{name}: expected one of {_listed(options)}, found an array; {STATIC}")
    if not any(value is option or value == option for option in options):
        raise ValueError(f"{name}: expected one of {_listed(options)}, found {value!r}")


def _listed(options: Sequence[Any]) -> str:
    return ", ".join(map(repr, options))


def check_losses(losses: Any, num_tasks: int) -> PerTask | None:
    """Returns the raw losses as a [T] array of float32 at least, or None where none were given.

    Raises ValueError for a wrong shape, TypeError for complex numbers.  float16 and bfloat16 losses
    are widened: log(0 + 1e-8) is -inf in float16.
    """
    if losses is None:
        return None
    losses = in_order("losses", losses, num_tasks)
    array = _stacked("losses", losses)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"losses: expected real numbers, found {array.dtype}")
    if array.shape != (num_tasks,):
        raise ValueError(f"losses: expected shape ({num_tasks},), found {array.shape}")
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _stacked(name: str, values: Any) -> Array:
    if isinstance(values, list | tuple):
        shapes = [jnp.shape(value) for value in values]
        if any(shape != () for shape in shapes):
            raise ValueError(f"{name}: expected a scalar for each task, found shapes {shapes}")
        return jnp.stack([jnp.asarray(value) for value in values])
    return jnp.asarray(values)


def check_task_mask(task_mask: Any, num_tasks: int) -> Mask:
    """Returns the mask of the tasks that take part as a [T] bool array; None means all of them."""
    if task_mask is None:
        return jnp.ones((num_tasks,), bool)
    array = _stacked("task_mask", in_order("task_mask", task_mask, num_tasks))
    if array.shape != (num_tasks,) or array.dtype != jnp.bool_:
        raise ValueError(
            f"task_mask: expected a bool array of shape ({num_tasks},), "
            f"found {array.dtype} of shape {array.shape}"
        )
    return array


def check_task_grads(
    updates: PyTree, labels: PyTree, num_tasks: int, params: PyTree = None
) -> None:
    """Raises ValueError unless `updates` are stacked per-task gradients.

    A shared leaf is [T, *shape] and a task's own leaf is [*shape], where [*shape] is the
    parameter's.  Without this check optax would broadcast an unaggregated or unstacked leaf
    into the parameters, or into a stacked average, without a word.

    Args:
      updates: the tree of gradients.
      labels: the tree of labels, one per leaf (see `_labels.resolve`).
      num_tasks: T, the number of tasks.
      params: the parameters; None leaves only the leading axis to check.
    """
    if params is not None:
        check_same_tree("updates", updates, "params", params)
    flat_updates = jax.tree_util.tree_leaves_with_path(updates)
    references = [None] * len(flat_updates) if params is None else jax.tree.leaves(params)
    for (path, leaf), label, param in zip(
        flat_updates, jax.tree.leaves(labels), references, strict=True
    ):
        where = f"updates{jax.tree_util.keystr(path)}"
        found = jnp.shape(leaf)
        if param is not None:
            shape = jnp.shape(param)
            expected = (num_tasks, *shape) if label == SHARED else shape
            if found != expected:
                kind = (
                    f"the gradients of num_tasks={num_tasks} tasks stacked in front of the "
                    f"parameter's {shape}"
                    if label == SHARED
                    else "the parameter's own, as it is labelled "
                    + ("frozen" if label == FROZEN else f"a parameter of task {label} alone")
                )
                if label == SHARED and found == shape:
                    kind += "; if it belongs to one task, this transformation needs labels"
                raise ValueError(f"{where}: expected shape {expected} ({kind}), found {found}")
        elif label == SHARED and found[:1] != (num_tasks,):
            raise ValueError(
                f"{where}: expected shape ({num_tasks}, ...) (the gradients of "
                f"num_tasks={num_tasks} tasks stacked on the first axis), found {found}"
            )


def check_same_tree(name: str, tree: PyTree, reference_name: str, reference: PyTree) -> None:
    """Raises ValueError, naming a leaf that only one of the two has, unless the trees match."""
    found, expected = jax.tree.structure(tree), jax.tree.structure(reference)
    if found == expected:  # type: ignore[operator]
        return
    paths, reference_paths = (
        {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(t)}
        for t in (tree, reference)
    )
    differences = [
        f"{owner}{path} is only in {owner}"
        for owner, only in (
            (name, sorted(paths - reference_paths)),
            (reference_name, sorted(reference_paths - paths)),
        )
        for path in only[:1]
    ]
    detail = "; ".join(differences) or f"expected {expected}, found {found}"
    raise ValueError(f"{name}: expected the tree of {reference_name}: {detail}")


def check_same_shapes(name: str, tree: PyTree, reference_name: str, reference: PyTree) -> None:
    """Raises ValueError, naming the leaf, unless two trees and the shapes of their leaves match."""
    check_same_tree(name, tree, reference_name, reference)
    for (path, leaf), like in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(reference), strict=True
    ):
        if jnp.shape(leaf) != jnp.shape(like):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: expected shape {jnp.shape(like)} (that of "
                f"{reference_name}), found {jnp.shape(leaf)}"
            )
