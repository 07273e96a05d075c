"""What a step of examples/language_model.py takes on TPUs and GPUs, and the largest one that fits.

`python -m benchmarks.perf.language_model [TARGET ...]` compiles the steps for devices that need not
be there, and runs none.
"""

import functools
import itertools
import json
import pathlib
import runpy
import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from rich.console import Console

import dbmtl_jax as dbmtl
from benchmarks import run_log
from benchmarks.accelerators import figures, hlo, targets
from benchmarks.perf import steps
from benchmarks.report.tables import table_formats
from benchmarks.report.tables.table import plain

METHODS: dict[str, dict[str, Any]] = {
    "EW": {"method": dbmtl.ew},
    "DB-MTL": {"method": dbmtl.db_mtl},
    "DB-MTL, norms": {"method": functools.partial(dbmtl.db_mtl, average="norms")},
    "MGDA": {"method": dbmtl.mgda},
}
"""The second averages T gradients, the third their norms alone; the fourth reads the Gramian."""

IN_ORDER = {"DB-MTL, in order": {"method": dbmtl.db_mtl, "in_order": True}}
"""Each gradient reads its mixture's sequences alone: eight decoders, which take long to compile."""

MESHES = {"v5e": ((8, 1), (4, 2), (1, 8)), "h100": ((1, 1),)}
"""Sizes of the axes data and fsdp. On the last mesh of a target the largest model is looked for."""

_PER_DEVICE = 8  # sequences
_WIDTH = 2048  # of the largest models
_DEPTHS = (4, 16)  # layers of models that fit, of which the largest is foretold


class Row(NamedTuple):
    """The program of one step; bytes are those of one device."""

    target: str
    mesh: tuple[int, int]  # data, fsdp
    method: str
    width: int
    layers: int
    parameters: int
    compile_seconds: float
    kept: int = 0  # parameters, and the state of method and optimizer
    temporary: int = 0
    needed: int | None = None  # both, and results that have no place in them; None: refused
    traffic: int = 0  # between a chip and its main memory
    flops: int = 0
    kernels: int = 0
    collectives: dict[str, int] | None = None  # kind -> bytes of what they result in

    @property
    def fits(self) -> bool:
        """Whether a device has the memory."""
        return self.needed is not None and self.needed <= targets.TARGETS[self.target].memory


@functools.cache
def example() -> types.SimpleNamespace:
    """The example's names."""
    path = pathlib.Path(__file__).parents[2] / "examples" / "language_model.py"
    return types.SimpleNamespace(**runpy.run_path(str(path)))


def measure(target: str, mesh: tuple[int, int], method: str, width: int, layers: int) -> Row:
    """Compiles a step of the example for a mesh of a target."""
    devices = targets.mesh(target, mesh, ("data", "fsdp"))
    small = example().SMALL
    config = small._replace(
        width=width,
        layers=layers,
        heads=max(small.heads, width // 128),
        batch=_PER_DEVICE * devices.size,
    )
    training = example().training(config, mesh=devices, **(METHODS | IN_ORDER)[method])
    model = jax.tree.leaves(training.state[0])
    begin = time.perf_counter()
    with jax.set_mesh(devices):
        lowered = training.step.lower(training.state, training.batch)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        compiled = None
    row = Row(
        target,
        mesh,
        method,
        config.width,
        config.layers,
        sum(leaf.size for leaf in model),
        time.perf_counter() - begin,
    )
    if compiled is None:
        return row
    found = figures.figures(hlo.parse(compiled.as_text()))
    memory: Any = compiled.memory_analysis()
    return row._replace(
        kept=memory.argument_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        needed=steps.needed_bytes(compiled),
        traffic=found.traffic,
        flops=found.flops,
        kernels=found.kernels,
        collectives=found.collectives,
    )


def deepest(measure: Callable[[int], Row], memory: int) -> Row:
    """The row of the deepest model that fits, or of one at most 1/32 less deep.

    Memory grows by nearly the same with every layer.  A line through the two deepest models that
    were seen to fit says where it is full.
    """
    below, deepest = (measure(depth) for depth in _DEPTHS)
    too_deep = None
    while True:
        if below.needed is None or deepest.needed is None:
            raise ValueError(
                f"expected that models of {_DEPTHS} layers fit, found that they do not"
            )
        per_layer = (deepest.needed - below.needed) / (deepest.layers - below.layers)
        layers = deepest.layers + int((memory - deepest.needed) / per_layer)
        if too_deep is not None:
            layers = min(layers, too_deep - max(1, too_deep // 32))
        if layers - deepest.layers <= deepest.layers // 32:
            return deepest
        row = measure(layers)
        if row.fits:
            below, deepest = deepest, row
        else:
            too_deep = layers


class Record:
    """The rows that have been measured, in a file: what is in it is not compiled again."""

    def __init__(self, path: pathlib.Path, say: Callable[..., None]) -> None:
        self._path, self._say = path, say
        text = path.read_text("utf-8") if path.exists() else ""
        self.rows = [Row(**json.loads(line)) for line in text.splitlines()]
        self.rows = [row._replace(mesh=(row.mesh[0], row.mesh[1])) for row in self.rows]

    def measure(self, *program: Any) -> Row:
        """`measure`, or its row from the file."""
        for row in self.rows:
            if row[: len(program)] == program:
                return row
        self._say(*program, "...")
        row = measure(*program)
        self.rows.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row._asdict()) + "\n")
        return row


def main(names: Sequence[str]) -> None:
    """Compiles for the targets of these names, or for all; what was compiled before is read."""
    targets.prepare()
    console = Console(markup=False, highlight=False, soft_wrap=True)
    out = pathlib.Path("runs") / "perf"
    run_log.make_folder(out)
    record = Record(out / "language_model.jsonl", console.print)
    small = example().SMALL
    base: list[Row] = []
    largest: list[Row] = []
    for target in names or MESHES:
        memory = targets.TARGETS[target].memory
        *others, divided = MESHES[target]
        for method in (*METHODS, *IN_ORDER):
            base.append(record.measure(target, divided, method, small.width, small.layers))
        for method in METHODS:
            of_depth = functools.partial(record.measure, target, divided, method, _WIDTH)
            largest.append(deepest(of_depth, memory))
        for mesh, method in itertools.product(others, METHODS):
            base.append(record.measure(target, mesh, method, small.width, small.layers))
        page = f"{table(base)}\n{table(largest)}"
        run_log.write_file(out / "language_model.md", page)
        console.print(page)


_HEADINGS = (
    *("target", "mesh", "step", "layers", "parameters, 10⁶", "kept GB", "temporary GB"),
    *("needed GB", "traffic GB", "TFLOP", "kernels", *figures.COLLECTIVES, "compiled in s"),
)


def table(rows: Sequence[Row]) -> str:
    """A table in Markdown; collectives in GB."""
    return table_formats.markdown(plain(_HEADINGS, [_cells(row) for row in rows]))


def _cells(row: Row) -> tuple[str, ...]:
    start = (
        targets.TARGETS[row.target].kind,
        "×".join(map(str, row.mesh)),
        row.method,
        f"{row.layers} × {row.width}",
        f"{row.parameters / 1e6:.0f}",
    )
    if row.needed is None:
        return (*start, "does not fit", *[""] * (len(_HEADINGS) - len(start) - 1))
    return (
        *start,
        f"{row.kept / 1e9:.2f}",
        f"{row.temporary / 1e9:.2f}",
        f"{row.needed / 1e9:.2f}" + ("" if row.fits else " (too much)"),
        f"{row.traffic / 1e9:.0f}",
        f"{row.flops / 1e12:.1f}",
        f"{row.kernels:,}",
        *(_gigabytes((row.collectives or {}).get(kind, 0)) for kind in figures.COLLECTIVES),
        f"{row.compile_seconds:.0f}",
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f}" if size else "–"


if __name__ == "__main__":
    main(sys.argv[1:])
