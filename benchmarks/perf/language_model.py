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
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from rich.console import Console

import dbmtl_jax as dbmtl
from benchmarks import run_log
from benchmarks.accelerators import targets
from benchmarks.accelerators.figures import COLLECTIVES
from benchmarks.errors import UserError, told_in_one_line
from benchmarks.files import json_text
from benchmarks.files.disk import read_bytes
from benchmarks.perf import compiled
from benchmarks.perf.compiled import Compiled
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


class Program(NamedTuple):
    """One step."""

    target: str
    mesh: tuple[int, int]  # data, fsdp
    method: str
    width: int
    layers: int


Row = Compiled[Program]


@functools.cache
def example() -> types.SimpleNamespace:
    """The example's names."""
    path = pathlib.Path(__file__).parents[2] / "examples" / "language_model.py"
    return types.SimpleNamespace(**runpy.run_path(str(path)))


def measure(program: Program) -> Row:
    """Compiles a step of the example for a mesh of a target."""
    devices = targets.mesh(program.target, program.mesh, ("data", "fsdp"))
    small = example().SMALL
    config = small._replace(
        width=program.width,
        layers=program.layers,
        heads=max(small.heads, program.width // 128),
        batch=_PER_DEVICE * devices.size,
    )
    options = (METHODS | IN_ORDER)[program.method]
    training = example().training(config, mesh=devices, **options)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(training.state[0]))

    def lower() -> jax.stages.Lowered:
        with jax.set_mesh(devices):
            return training.step.lower(training.state, training.batch)

    return compiled.measure(program, parameters, lower)


def deepest(measure: Callable[[Program], Row], program: Program, memory: int) -> Row:
    """The row of the deepest model that fits, or of one at most 1/32 less deep.

    Memory grows by nearly the same with every layer.  A line through the two deepest models that
    were seen to fit says where it is full.
    """
    below, deepest = (measure(program._replace(layers=depth)) for depth in _DEPTHS)
    too_deep = None
    while True:
        if below.needed is None or deepest.needed is None:
            raise ValueError(
                f"expected that models of {_DEPTHS} layers fit, found that they do not"
            )
        depth = deepest.program.layers
        per_layer = (deepest.needed - below.needed) / (depth - below.program.layers)
        layers = depth + int((memory - deepest.needed) / per_layer)
        if too_deep is not None:
            layers = min(layers, too_deep - max(1, too_deep // 32))
        if layers - depth <= depth // 32:
            return deepest
        row = measure(program._replace(layers=layers))
        if row.fits(memory):
            below, deepest = deepest, row
        else:
            too_deep = layers


class Record:
    """The rows that have been measured, in a file: what is in it is not compiled again.

    Args:
      path: the file, of a line for each row.
      say: prints which program is compiled.

    Raises:
      UserError: if the file is something else.
    """

    def __init__(self, path: pathlib.Path, say: Callable[..., None]) -> None:
        self._path, self._say = path, say
        self._rows: dict[Program, Row] = {}
        for number, line in enumerate((read_bytes(path) or b"").splitlines(), start=1):
            where = f"{path}: line {number}"
            row = compiled.from_json(json_text.parse(line, where), Program, where)
            self._rows[row.program] = row

    def measure(self, program: Program) -> Row:
        """`measure`, or its row from the file."""
        if program not in self._rows:
            self._say(*program, "...")
            row = self._rows[program] = measure(program)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row.as_json()) + "\n")
        return self._rows[program]


def main(names: Sequence[str]) -> None:
    """Compiles for the targets of these names, or for all; what was compiled before is read.

    Raises:
      UserError: for a target without meshes.
    """
    for name in set(names) - set(MESHES):
        raise UserError(f"unknown target {name!r}, expected some of {', '.join(MESHES)}")
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
        program = Program(target, divided, "EW", small.width, small.layers)
        wide = program._replace(width=_WIDTH)
        base += [record.measure(program._replace(method=m)) for m in (*METHODS, *IN_ORDER)]
        largest += [deepest(record.measure, wide._replace(method=m), memory) for m in METHODS]
        base += [
            record.measure(program._replace(mesh=mesh, method=m))
            for mesh, m in itertools.product(others, METHODS)
        ]
        page = f"{table(base)}\n{table(largest)}"
        run_log.write_file(out / "language_model.md", page)
        console.print(page)


_HEADINGS = (
    *("target", "mesh", "step", "layers", "parameters, 10⁶", "kept GB", "temporary GB"),
    *("needed GB", "traffic GB", "TFLOP", "kernels", *COLLECTIVES, "compiled in s"),
)


def table(rows: Sequence[Row]) -> str:
    """A table in Markdown; collectives in GB."""
    return table_formats.markdown(plain(_HEADINGS, [_cells(row) for row in rows]))


def _cells(row: Row) -> tuple[str, ...]:
    program, counts, target = row.program, row.counts, targets.TARGETS[row.program.target]
    start = (
        target.kind,
        "×".join(map(str, program.mesh)),
        program.method,
        f"{program.layers} × {program.width}",
        f"{row.parameters / 1e6:.0f}",
    )
    if row.needed is None:
        return (*start, "does not fit", *[""] * (len(_HEADINGS) - len(start) - 1))
    return (
        *start,
        f"{row.kept / 1e9:.2f}",
        f"{row.temporary / 1e9:.2f}",
        f"{row.needed / 1e9:.2f}" + ("" if row.fits(target.memory) else " (too much)"),
        f"{counts.traffic / 1e9:.0f}",
        f"{counts.flops / 1e12:.1f}",
        f"{counts.kernels:,}",
        *(_gigabytes(counts.collectives.get(kind, 0)) for kind in COLLECTIVES),
        f"{row.compile_seconds:.0f}",
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f}" if size else "–"


if __name__ == "__main__":
    with told_in_one_line():
        main(sys.argv[1:])
