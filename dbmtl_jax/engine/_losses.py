"""What the engine functions take from the user's functions: losses, and auxiliary outputs."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._names import NumTasks, check_names
from dbmtl_jax.core._types import Array, PyTree


def checked_losses(losses: Any) -> list[Array] | Array:
    """The losses of T tasks, as T scalars or an array [T].

    Raises:
      TypeError: for losses that are not real floating numbers.
      ValueError: for anything but T scalars in a flat sequence or mapping, or one array [T].
    """
    if isinstance(losses, Mapping):
        names = sorted(check_names("fun: losses", losses))
        return checked_losses([losses[name] for name in names])
    if isinstance(losses, list | tuple):
        if not losses or any(_shape(loss) != () for loss in losses):
            parts = ", ".join(map(_described, losses)) or "nothing"
            found = f"a {type(losses).__name__} of {parts}"
            hint = (
                "; pass has_aux=True if the last is auxiliary output, and return losses without "
                "their total"
                if len(losses) == 2
                else ""
            )
            raise ValueError(f"fun: expected a sequence of T scalar losses, found {found}{hint}")
        return [_real(loss) for loss in losses]
    shape = _shape(losses)
    if shape is None or len(shape) != 1 or shape[0] < 1:
        raise ValueError(
            f"fun: expected losses of shape (T,) or T scalars, found {_described(losses)}"
        )
    return _real(losses)


def num_tasks_of(losses: Any) -> NumTasks:
    """T, with the names of the tasks where the losses have names."""
    if isinstance(losses, Mapping):
        return NumTasks(len(losses), losses)
    return NumTasks(len(losses))


def like_losses(values: list[Array] | Array, num_tasks: NumTasks) -> PyTree:
    """The losses of T tasks as an array [T], or by name."""
    if num_tasks.names is not None:
        return dict(zip(num_tasks.names, values, strict=True))
    return jnp.stack(values) if isinstance(values, list) else values


def _shape(x: Any) -> tuple[int, ...] | None:
    """The shape of an array or a number; None for anything else."""
    return tuple(jnp.shape(x)) if hasattr(x, "dtype") or isinstance(x, int | float) else None


def _described(x: Any) -> str:
    if isinstance(x, Mapping):
        return f"a mapping of {', '.join(map(str, x))}"
    if isinstance(x, list | tuple):
        return f"a {type(x).__name__} of length {len(x)}"
    shape = _shape(x)
    return f"{type(x).__name__}" if shape is None else f"shape {shape}"


def _real(losses: Any, name: str = "fun") -> Array:
    array = jnp.asarray(losses)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name}: expected losses of a real floating dtype, found {array.dtype}")
    return array


def check_differentiable(params: PyTree, name: str = "params") -> None:
    """Raises TypeError, naming the leaf, for what has no gradient: integers, keys, strings.

    So it does for an NNX model that has other state than parameters: that would be differentiated,
    and never updated.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None:
        _check_modules(nnx, params, name)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        try:
            found = jnp.result_type(leaf)
        except TypeError:
            found = None
        if found is None or not jnp.issubdtype(found, jnp.inexact):
            kind = type(leaf).__name__ if found is None else found
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)}: expected a floating or complex array, as "
                f"nothing else has a gradient, found {kind}; keep it out of {name}"
            )


def _check_modules(nnx: Any, params: PyTree, name: str) -> None:
    """Raises TypeError for a `flax.nnx.Module` with batch statistics or random numbers."""
    for node in jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, nnx.Module)):
        if isinstance(node, nnx.Module):
            others = jax.tree_util.tree_leaves_with_path(nnx.state(node, nnx.Not(nnx.Param)))
            for path, _ in others[:1]:
                raise TypeError(
                    f"{name}: expected a tree of parameters, found a {type(node).__name__} whose "
                    f"{jax.tree_util.keystr(path)} is none; use the functions of dbmtl_jax.nnx"
                )


def with_aux(fun: Any, has_aux: bool, name: str = "fun") -> Callable[..., tuple[Any, Any]]:
    """A function that returns its value and an auxiliary output, None where it has none.

    Raises:
      TypeError: for anything but a function.
      ValueError: with `has_aux`, where the function returns anything but a pair.
    """
    _checks.check_function(name, fun)

    def pair(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        found = fun(*args, **kwargs)
        if not has_aux:
            return found, None
        if not (isinstance(found, list | tuple) and len(found) == 2):
            raise ValueError(
                f"{name}: expected a pair (losses, aux), as has_aux=True, found {_described(found)}"
            )
        return found[0], found[1]

    return pair


def scalar_loss(fun: Any, name: str, has_aux: bool) -> Callable[..., Any]:
    """The function of one task as (loss, aux), or an error where the loss is no real scalar."""

    def checked(*args, **kwargs):
        loss, aux = with_aux(fun, has_aux, name)(*args, **kwargs)
        if jnp.shape(loss) != ():
            raise ValueError(f"{name}: expected a scalar loss, found shape {jnp.shape(loss)}")
        return _real(loss, name), aux

    return checked
