"""Communication and memory of a training step on several devices, from the compiled program.

`python -m benchmarks.perf.communication` compiles the steps of DB-MTL and of equal weighting for up
to eight virtual devices without running them; with the name of a TPU for eight of these.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import dbmtl_jax as dbmtl
from benchmarks.accelerators import targets
from benchmarks.accelerators.figures import COLLECTIVES
from benchmarks.errors import told_in_one_line
from benchmarks.perf import compiled
from benchmarks.perf.compiled import Compiled
from benchmarks.perf.network import engine_options
from benchmarks.report.tables import table_formats
from benchmarks.report.tables.table import Table, plain
from benchmarks.training.mesh import AXES, Layout

_BATCH = 64
_LAYERS = 4
MEMORIES = (16, 40, 80, 141)
"""Memory sizes of accelerators in GB."""


class Program(NamedTuple):
    """A training step."""

    method: str
    num_tasks: int
    mode: str
    mesh: str


Row = Compiled[Program]


def measure(method: str, num_tasks: int, mode: str, width: int, devices: Mesh) -> Row:
    """Compiles a training step of Adam for a network of four square layers.

    Args:
      method: "ew" (one backward pass), or a name of `dbmtl_jax.METHODS`.
      num_tasks: number of tasks T.
      mode: mode of the engine, or "stream".
      width: width of the layers.
      devices: a mesh whose axis "data" copies the parameters, and "fsdp" divides them.
    """
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
            task_grads = dbmtl.value_and_task_grads(losses, **engine_options(mode))
            values, grads = task_grads(params, x, y)
            updates, opt_state = tx.update(grads, opt_state, params, losses=values)
        return layout.divide((optax.apply_updates(params, updates), opt_state), params)

    state = jax.eval_shape(init)
    place = NamedSharding(devices, PartitionSpec(AXES))
    batch = [
        jax.ShapeDtypeStruct((_BATCH, n), jnp.float32, sharding=place) for n in (width, num_tasks)
    ]
    return compiled.measure(
        Program(method, num_tasks, mode, _name(devices)),
        _LAYERS * width**2,
        lambda: jax.jit(step, donate_argnums=0).lower(_places(layout, state), *batch),
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
    headings = ("method", "T", "mode", "mesh", *COLLECTIVES, "kept", "temporary")
    cells = []
    for row in rows:
        program, unit = row.program, 4 * row.parameters
        sent = [row.counts.collectives.get(kind, 0) for kind in COLLECTIVES]
        cells.append(
            (
                program.method,
                str(program.num_tasks),
                "–" if program.method == "ew" else program.mode,
                program.mesh,
                *(f"{size / unit:.2f}" if size else "–" for size in sent),
                f"{row.kept / unit:.2f}",
                f"{row.temporary / unit:.2f}",
            )
        )
    return plain(headings, cells)


def largest(rows: Sequence[Row]) -> Table:
    """A table of the largest P for T = 10 with DB-MTL, in billions, without activations.

    They are extrapolated linearly from two numbers of tasks.
    """
    cells = []
    for name in dict.fromkeys(row.program.mesh for row in rows):
        of_mesh = (name, "db_mtl", "vmap")
        few, many = (
            row
            for row in rows
            if (row.program.mesh, row.program.method, row.program.mode) == of_mesh
        )
        sizes = [(row.kept + row.temporary) / row.parameters for row in (few, many)]
        slope = (sizes[1] - sizes[0]) / (many.program.num_tasks - few.program.num_tasks)
        per_parameter = sizes[0] + slope * (10 - few.program.num_tasks)
        cells.append((name, *(f"{memory / per_parameter:.2f}" for memory in MEMORIES)))
    return plain(("mesh", *(f"{memory} GB" for memory in MEMORIES)), cells)


PROGRAMS = (
    ("ew", 4, "vmap"),
    ("db_mtl", 4, "vmap"),
    ("db_mtl", 8, "vmap"),
    ("db_mtl", 4, "stream"),
    ("nash_mtl", 4, "vmap"),
    ("aligned_mtl", 4, "vmap"),
)
"""Method, number of tasks and mode of the programs in the table."""


def main(target: str | None = None) -> None:
    """Prints both tables in Markdown, for a mesh of CPUs or of an accelerator."""
    if target is None:
        jax.config.update("jax_num_cpu_devices", 8)
    else:
        kind = targets.find(target).kind
        targets.prepare()
        print(f"{kind}: compiled, not run\n")

    def mesh(data: int, fsdp: int) -> Mesh:
        if target is not None:
            return targets.mesh(target, (data, fsdp), AXES)
        return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)

    shapes = ((1, 1), (2, 1), (8, 1), (1, 2), (1, 8), (4, 2))
    rows = [measure(*program, 1024, mesh(*sizes)) for sizes in shapes for program in PROGRAMS]
    print(table_formats.markdown(table(rows)))
    print(table_formats.markdown(largest(rows)))


if __name__ == "__main__":
    with told_in_one_line():
        main(*sys.argv[1:])
