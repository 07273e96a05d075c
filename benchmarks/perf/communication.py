"""Communication and memory of a training step on several devices, from the compiled program.

`python -m benchmarks.perf.communication` compiles the steps of DB-MTL and of equal weighting for up
to eight virtual devices without running them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh
from rich.console import Console
from rich.table import Table

import dbmtl_jax as dbmtl
from benchmarks.accelerators import figures, hlo
from benchmarks.training.mesh import AXES, Layout

_BATCH = 64
_LAYERS = 4
MEMORIES = (16, 40, 80, 141)
"""Memory sizes of accelerators in GB."""


class Row(NamedTuple):
    """The result of one program; bytes are those of one device."""

    method: str
    num_tasks: int
    num_parameters: int
    mesh: str
    collectives: dict[str, int]  # kind of collective -> bytes
    kept: int  # bytes of the arguments: parameters and optimizer state
    temporary: int  # bytes of temporary memory


def measure(method: str, num_tasks: int, width: int, data: int, fsdp: int) -> Row:
    """Compiles a training step of Adam for a network of four square layers.

    Args:
      method: "ew" (one backward pass) or "db_mtl".
      num_tasks: number of tasks T.
      width: width of the layers.
      data: number of devices along the mesh axis that copies the parameters.
      fsdp: number of devices along the mesh axis that divides the parameters.
    """
    devices = jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)
    layout = Layout(devices, num_tasks)
    tx = optax.adam(1e-3)
    if method != "ew":
        tx = optax.chain(dbmtl.METHODS[method](num_tasks), tx)

    def losses(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        for layer in params:
            x = jnp.tanh(x @ layer)
        return jnp.mean((x[:, :num_tasks] - y) ** 2, axis=0)

    def init() -> Any:
        params = [jnp.zeros((width, width)) for _ in range(_LAYERS)]
        return layout.divide((params, tx.init(params)), params)

    def step(state: Any, x: jax.Array, y: jax.Array) -> Any:
        params, opt_state = state
        if method == "ew":
            grads = jax.grad(lambda p: losses(p, x, y).sum())(params)
            updates, opt_state = tx.update(grads, opt_state, params)
        else:
            values, grads = dbmtl.value_and_task_grads(losses, mode="vmap")(params, x, y)
            updates, opt_state = tx.update(grads, opt_state, params, losses=values)
        return layout.divide((optax.apply_updates(params, updates), opt_state), params)

    state = jax.eval_shape(init)
    x, y = jnp.zeros((_BATCH, width)), jnp.zeros((_BATCH, num_tasks))
    places = _places(layout, state)
    compiled = jax.jit(step, donate_argnums=0).lower(places, *layout.put_batch((x, y), 0)).compile()
    # Any, as some backends do not support these calls; those of CPUs and GPUs do.
    memory: Any = compiled.memory_analysis()
    return Row(
        method,
        num_tasks,
        _LAYERS * width**2,
        _name(devices),
        figures.figures(hlo.parse(compiled.as_text())).collectives,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
    )


def _places(layout: Layout, state: Any) -> Any:
    """The shapes and shardings of the arrays of a state (params, optimizer state)."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        state,
        layout.places(state, state[0]),
    )


def _name(mesh: Mesh) -> str:
    return ",".join(f"{axis}={size}" for axis, size in mesh.shape.items())


def table(rows: Sequence[Row]) -> Table:
    """A table of the bytes in units of 4 P, the size of a float32 gradient of all P parameters."""
    drawn = Table(title="a step, in units of 4 P bytes, per device", title_justify="left")
    kinds = figures.COLLECTIVES[:3]
    for heading in ("method", "T", "P", "mesh", *kinds, "other", "kept", "temporary"):
        drawn.add_column(heading, justify="right")
    for row in rows:
        unit = 4 * row.num_parameters
        known = [row.collectives.get(kind, 0) for kind in figures.COLLECTIVES]
        shown = [*known[:3], sum(known[3:]), row.kept, row.temporary]
        drawn.add_row(
            row.method,
            str(row.num_tasks),
            f"{row.num_parameters:,}",
            row.mesh,
            *(f"{figure / unit:.2f}" for figure in shown),
        )
    return drawn


def largest(rows: Sequence[Row]) -> Table:
    """A table of the largest numbers of parameters that fit for ten tasks, without activations.

    They are extrapolated linearly from two numbers of tasks.
    """
    drawn = Table(title="largest P for T = 10, without activations", title_justify="left")
    for heading in ("mesh", *(f"{memory} GB" for memory in MEMORIES)):
        drawn.add_column(heading, justify="right")
    for name in dict.fromkeys(row.mesh for row in rows):
        few, many = (r for r in rows if r.mesh == name and r.method != "ew")
        sizes = [(row.kept + row.temporary) / row.num_parameters for row in (few, many)]
        slope = (sizes[1] - sizes[0]) / (many.num_tasks - few.num_tasks)
        per_parameter = sizes[0] + slope * (10 - few.num_tasks)
        drawn.add_row(name, *(f"{memory / per_parameter:.2f} billion" for memory in MEMORIES))
    return drawn


def main() -> None:
    """Prints both tables."""
    jax.config.update("jax_num_cpu_devices", 8)
    console = Console(width=160)
    rows = [
        measure(method, num_tasks, 1024, *sizes)
        for sizes in ((1, 1), (2, 1), (8, 1), (1, 2), (1, 8), (4, 2))
        for method, num_tasks in (("ew", 4), ("db_mtl", 4), ("db_mtl", 8))
    ]
    console.print(table(rows))
    console.print(largest(rows))


if __name__ == "__main__":
    main()
