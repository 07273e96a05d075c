"""What the engine functions take from the user's functions: losses, and auxiliary outputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dbmtl_jax.core._types import Array, PerTask, PyTree


def checked_losses(losses: Any) -> list[Array] | Array:
    """The losses of T tasks, T scalars or an array [T]; ValueError for anything else."""
    if isinstance(losses, list | tuple):
        shapes = [jnp.shape(loss) for loss in losses]
        if not losses or any(shape != () for shape in shapes):
            raise ValueError(f"fun: expected a sequence of T scalar losses, found shapes {shapes}")
        return [_real(loss) for loss in losses]
    shape = jnp.shape(losses)
    if len(shape) != 1 or shape[0] < 1:
        raise ValueError(f"fun: expected losses of shape (T,) or T scalars, found shape {shape}")
    return _real(losses)


def _real(losses: Any) -> Array:
    array = jnp.asarray(losses)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"fun: expected losses of a real floating dtype, found {array.dtype}")
    return array


def check_differentiable(params: PyTree, name: str = "params") -> None:
    """Raises TypeError, naming the leaf, for what has no gradient: integers, keys, strings."""
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


def stack_losses(losses: list[Array] | Array) -> PerTask:
    """The losses of T tasks as one array."""
    return jnp.stack(losses) if isinstance(losses, list) else losses


def with_aux(fun: Callable[..., Any], has_aux: bool) -> Callable[..., tuple[Any, Any]]:
    """Gives a function without auxiliary outputs an empty one, so that there is one case."""
    return fun if has_aux else lambda *args, **kwargs: (fun(*args, **kwargs), None)


def scalar_loss(fun: Callable[..., Any], name: str, has_aux: bool) -> Callable[..., Any]:
    """The function of one task as (loss, aux); ValueError where the loss is no scalar."""

    def checked(*args):
        loss, aux = with_aux(fun, has_aux)(*args)
        if jnp.shape(loss) != ():
            raise ValueError(f"{name}: expected a scalar loss, found shape {jnp.shape(loss)}")
        return loss, aux

    return checked
