"""Task gradients inside of `jax.shard_map`, where values may differ from device to device.

A parameter that is the same on all devices has the sum over the devices for its gradient if the
losses differ there: JAX adds up what the devices contribute.  The rows of each device's own losses
come from a parameter that is *varying*, too.  So parameters are cast to vary over the axes over
which the losses do, and over no others: rows of losses that are averaged over the devices within
the function are those of the average.
"""

from collections.abc import Callable
from typing import Any

import jax

from dbmtl_jax.core._types import Array, PyTree


def varying_axes(x: Any) -> frozenset[str]:
    """The axes of the mesh over which a value, or its type, differs from device to device."""
    kind = getattr(x if hasattr(x, "manual_axis_type") else jax.typeof(x), "manual_axis_type", None)
    return getattr(kind, "varying", frozenset())


def axes_of_losses(losses_of: Callable[[PyTree], PyTree], params: PyTree) -> frozenset[str]:
    """The axes over which the losses differ from device to device; none outside of shard_map."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return frozenset()
    structs = jax.tree.leaves(jax.eval_shape(losses_of, params))
    return frozenset().union(*map(varying_axes, structs))


def varying_over(axes: frozenset[str], params: PyTree) -> PyTree:
    """The parameters, differing from device to device over these axes."""

    def cast(leaf: Any) -> Any:
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, params) if axes else params


def over_devices(total: Array) -> Array:
    """A total of what differs from device to device, summed over the devices."""
    axes = tuple(sorted(varying_axes(total)))
    return jax.lax.psum(total, axes) if axes else total


def check_stream(axes: frozenset[str], stream: bool) -> None:
    """Raises ValueError for pending gradients of losses that differ from device to device."""
    if stream and axes:
        names = ", ".join(sorted(axes))
        raise ValueError(
            "stream: expected losses that are the same on all devices, found losses that differ "
            f"over the axes {names}; average them within the function (jax.lax.pmean), or stack "
            "the gradients (stream=False) and average them and the losses before tx.update"
        )
