"""`perf --compile-for`: what training steps would cost on accelerators, from compiled programs."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console

from benchmarks import methods, run_log
from benchmarks.accelerators import targets
from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.files import expected, json_text
from benchmarks.files.expected import OBJECT, Kind, list_of
from benchmarks.methods import display_name
from benchmarks.perf import compile_for_picture, compiled, steps
from benchmarks.perf.compile_for_row import Program, Row
from benchmarks.perf.deeplab import deeplab
from benchmarks.perf.network import Network
from benchmarks.report.tables import table_formats
from benchmarks.report.tables.table import plain

NOTE = "compiled, not run"
"""What is said of every figure."""

NETWORKS: dict[str, Callable[[int], Network]] = steps.NETWORKS | {"deeplab": deeplab}
"""Those that are timed elsewhere, and one that would take too long."""


def measure(config: Perf, console: Console) -> list[Row]:
    """Compiles, prints, and writes `compiled.json`, `compiled.md` and `compiled.png` as it goes.

    Programs that are in `compiled.json` already are not compiled again, if it is of the same code.

    Raises:
      UserError: for a target without its compiler, an unknown method, bad numbers, and a
        `compiled.json` that is something else.
    """
    names = config.compile_for or ()
    if not names:
        raise UserError(f"--compile-for: expected some of {', '.join(targets.TARGETS)}, found none")
    if config.batch_size is not None and config.batch_size < 1:
        raise UserError(f"--batch-size: expected at least 1, found {config.batch_size}")
    if min(config.num_tasks, default=1) < 1:
        raise UserError(f"--num-tasks: expected at least 1, found {min(config.num_tasks)}")
    targets.prepare()
    others = _other_methods(config.methods)
    run_log.make_folder(config.out)
    known = _known(config)
    rows: list[Row] = []
    for step in _steps(config, names, others):
        row = known.get(step.program)
        target, network, num_tasks, _, method, mode = step.program
        what = f"{target}, {network}, T = {num_tasks}, {method}, {mode}"
        if row is None:
            console.print(f"{what} ...", style="dim")
            row = step.row(step.program.batch_size)
        if config.largest_batch and _fits(row) and row.largest_batch is None:
            console.print(f"{what}: the largest batch ...", style="dim")
            row = row._replace(largest_batch=step.largest_batch(row))
        rows.append(row)
        known[step.program] = row
        _write(config, [*known.values()])
    console.print(page(rows), soft_wrap=True, markup=False)
    console.print(f"written to {config.out}: compiled.json, compiled.md, compiled.png")
    return rows


def _other_methods(names: Sequence[str]) -> list[str]:
    """The methods of these names, also of lists, without those whose steps are no such program.

    Raises:
      UserError: for an unknown name, and for a method that reads two batches, if it is named.
    """
    found = []
    for name in map(methods.row_name, methods.spelt_out(names)):
        methods.check(name)
        if name in methods.OF_TWO_BATCHES and name in names:
            raise UserError(f"--methods: {name} reads two batches, expected methods that read one")
        if name not in methods.OF_TWO_BATCHES | {methods.BASELINE, "ew"}:
            found.append(name)
    return found


def _steps(config: Perf, names: Sequence[str], others: Sequence[str]) -> Iterator["Step"]:
    """All steps: of equal weighting, of DB-MTL in every mode, and of others as they are made."""
    programs = [
        ("ew", steps.EW),
        *(("db_mtl", mode) for mode in config.modes),
        *((name, mode) for name in others for mode in ("auto", "stream")),
    ]
    for name, num_tasks in itertools.product(config.networks, config.num_tasks):
        network = NETWORKS[name](num_tasks)
        size = config.batch_size or len(jax.tree.leaves(network.batch)[0])
        for target, (method, mode) in itertools.product(names, programs):
            program = Program(target, name, num_tasks, size, method, mode)
            yield Step(program, network, targets.devices(target)[0])


class Step(NamedTuple):
    """A training step that may be compiled for batches of any size."""

    program: Program
    network: Network
    device: Any

    def row(self, batch_size: int) -> Row:
        """What the step takes."""
        program, network = self.program._replace(batch_size=batch_size), self.network
        made = None
        if program.method not in ("ew", "db_mtl"):
            made = methods.build(program.method, network.num_tasks, labels=network.labels)
        step, state = steps.step_of(network, program.mode, made)
        place = jax.sharding.SingleDeviceSharding(self.device)

        def struct(x: Any, *leading: int) -> jax.ShapeDtypeStruct:
            shape = (*leading, *jnp.shape(x)[len(leading) :])
            return jax.ShapeDtypeStruct(shape, jnp.result_type(x), sharding=place)

        batch = jax.tree.map(lambda x: struct(x, batch_size), network.batch)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(network.params))
        return compiled.measure(
            program, parameters, lambda: step.lower(jax.tree.map(struct, state), batch)
        )

    def largest_batch(self, fitting: Row) -> int:
        """The largest batch that fits, to two digits.

        What a step needs grows in proportion to its batch, but for what does not depend on it.  So
        it is extrapolated from two sizes until the larger one nearly fills the memory.
        """
        memory = targets.TARGETS[self.program.target].memory
        below, above = fitting, self.row(2 * _size(fitting))
        while _fits(above) and _size(above) > _size(below):
            slope = (_needed(above) - _needed(below)) / (_size(above) - _size(below))
            if slope <= 0:
                break
            guess = _two_digits(_size(above) + (memory - _needed(above)) / slope)
            below, above = above, self.row(max(guess, _size(above)))
        if _fits(above):
            return _size(above)
        size, too_large = _size(below), _size(above)
        while (middle := _two_digits((size + too_large) / 2)) not in (size, too_large):
            if _fits(self.row(middle)):
                size = middle
            else:
                too_large = middle
        return size


def _fits(row: Row) -> bool:
    return row.fits(targets.TARGETS[row.program.target].memory)


def _size(row: Row) -> int:
    return row.program.batch_size


def _needed(row: Row) -> int:
    return row.needed or 0


def _two_digits(size: float) -> int:
    """Rounded down to two digits."""
    unit = 10 ** max(len(str(int(size))) - 2, 0)
    return int(size) // unit * unit


_TARGET = Kind(f"one of {', '.join(targets.TARGETS)}", targets.TARGETS.__contains__)


def _known(config: Perf) -> dict[Program, Row]:
    """The rows that a former call has written, if it was of the same code and packages."""
    path = config.out / "compiled.json"
    record = json_text.read_object(path)
    if record is None or record.get("environment") != run_log.environment():
        return {}
    where = f"{path}: compiled"
    expected.check(record.get("compiled"), list_of(OBJECT), where)
    rows = [compiled.from_json(row, Program, where) for row in record["compiled"]]
    for row in rows:
        expected.check(row.program.target, _TARGET, where)
    return {row.program: row for row in rows}


def _write(config: Perf, rows: Sequence[Row]) -> None:
    record = {
        "note": NOTE,
        "environment": run_log.environment(),
        "compiled": [row.as_json() for row in rows],
    }
    run_log.write_file(config.out / "compiled.json", json.dumps(record, indent=2) + "\n")
    run_log.write_file(config.out / "compiled.md", page(rows))
    compile_for_picture.draw(rows, config.out / "compiled.png")


_HEADINGS = (
    *("step", "T", "mode", "temporary MB", "needed MB", "traffic MB", "GFLOP", "kernels"),
    *("waits", "Mcycles", "compiled in s"),
)


def page(rows: Sequence[Row]) -> str:
    """A table in Markdown for each target, network and size of batches."""
    text = ""
    for of in dict.fromkeys(map(_of_table, rows)):
        here = [row for row in rows if _of_table(row) == of]
        target, network, size = of
        searched = any(row.largest_batch for row in here)
        cells = [(*_cells(row), *([str(row.largest_batch or "–")] * searched)) for row in here]
        table = plain((*_HEADINGS, *["largest batch"] * searched), cells)
        kind = targets.TARGETS[target].kind
        text += f"**{kind}, {network}, batches of {size} ({NOTE})**\n\n"
        text += table_formats.markdown(table) + "\n"
    return text


def _of_table(row: Row) -> tuple[str, str, int]:
    return row.program.target, row.program.network, row.program.batch_size


def _cells(row: Row) -> list[str]:
    program, counts = row.program, row.counts
    start = [display_name(program.method), str(program.num_tasks), program.mode]
    seconds = f"{row.compile_seconds:.0f}"
    if row.needed is None:
        return [*start, "does not fit", *[""] * 6, seconds]
    return [
        *start,
        f"{row.temporary / 1e6:.0f}",
        f"{row.needed / 1e6:.0f}" + ("" if _fits(row) else " (too much)"),
        f"{counts.traffic / 1e6:.0f}",
        f"{counts.flops / 1e9:.1f}",
        str(counts.kernels),
        str(counts.waits) if counts.waits else "–",
        f"{counts.estimated_cycles / 1e6:.2f}" if counts.estimated_cycles else "–",
        seconds,
    ]
