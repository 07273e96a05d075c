"""`perf --compile-for`: what training steps would cost on accelerators, from compiled programs."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console

from benchmarks import methods, run_log
from benchmarks.accelerators import figures, hlo, targets
from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.methods import display_name
from benchmarks.perf import compile_for_picture, steps
from benchmarks.perf.deeplab import deeplab
from benchmarks.perf.network import Network
from benchmarks.report.tables import table_formats
from benchmarks.report.tables.table import plain

NOTE = "compiled, not run"
"""What is said of every figure."""

NETWORKS: dict[str, Callable[[int], Network]] = steps.NETWORKS | {"deeplab": deeplab}
"""Those that are timed elsewhere, and one that would take too long."""


class Row(NamedTuple):
    """The program of one training step on one device; sizes are bytes."""

    target: str
    network: str
    num_tasks: int
    batch_size: int
    method: str
    mode: str
    compile_seconds: float
    needed: int  # arguments, temporary memory and what is not written in their place
    temporary: int
    traffic: int  # between the chip and its main memory, in one step
    flops: int  # of products of matrices and convolutions
    kernels: int
    waits: int  # for branches and loops about which a GPU asks its host
    estimated_cycles: int  # by XLA for TPUs, without waiting for memory: ratios only
    fits: bool
    largest_batch: int | None = None  # that fits; None: not looked for


def measure(config: Perf, console: Console) -> list[Row]:
    """Compiles, prints, and writes `compiled.json`, `compiled.md` and `compiled.png` as it goes.

    Programs that are in `compiled.json` already are not compiled again, if it is of the same code.

    Raises:
      UserError: for a target without its compiler, an unknown method, and bad numbers.
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
    known = {_key(row): row for row in _known(config)}
    rows: list[Row] = []
    for name in config.networks:
        for num_tasks in config.num_tasks:
            network = NETWORKS[name](num_tasks)
            size = config.batch_size or _batch_size(network)
            for target in names:
                device = targets.devices(target)[0]
                for method, mode in _programs(config.modes, others):
                    program = Program(target, device, name, network, method, mode)
                    row = known.get((target, name, num_tasks, size, method, mode))
                    what = f"{target}, {name}, T = {num_tasks}, {method}, {mode}"
                    if row is None:
                        console.print(f"{what} ...", style="dim")
                        row = program.row(size)
                    if config.largest_batch and row.fits and row.largest_batch is None:
                        console.print(f"{what}: the largest batch ...", style="dim")
                        row = row._replace(largest_batch=program.largest_batch(row))
                    rows.append(row)
                    _write(config, [*rows, *_others(known, rows)])
    console.print(page(rows), soft_wrap=True, markup=False)
    console.print(f"written to {config.out}: compiled.json, compiled.md, compiled.png")
    return rows


def _other_methods(names: Sequence[str]) -> list[str]:
    """The methods of these names, also of lists, without those whose steps are no such program.

    Raises:
      UserError: for an unknown name, and for a method that reads two batches, if it is named.
    """
    found = []
    for name in methods.spelt_out(names):
        methods.check(name)
        if name in methods.OF_TWO_BATCHES and name in names:
            raise UserError(f"--methods: {name} reads two batches, expected methods that read one")
        if name not in methods.OF_TWO_BATCHES | {methods.BASELINE, "ew"}:
            found.append(name)
    return found


def _programs(modes: Sequence[str], others: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(method, mode): equal weighting, DB-MTL in every mode, and others as they are made."""
    yield "ew", steps.EW
    for mode in modes:
        yield "db_mtl", mode
    for name in others:
        yield name, "auto"
        yield name, "stream"


class Program(NamedTuple):
    """A training step that may be compiled for batches of any size."""

    target: str
    device: Any
    network_name: str
    network: Network
    method: str
    mode: str

    def row(self, batch_size: int) -> Row:
        """What the step takes."""
        made = None
        if self.method not in ("ew", "db_mtl"):
            made = methods.build(self.method, self.network.num_tasks, labels=self.network.labels)
        step, state = steps.step_of(self.network, self.mode, made)
        place = jax.sharding.SingleDeviceSharding(self.device)

        def struct(x: Any, *leading: int) -> jax.ShapeDtypeStruct:
            shape = (*leading, *jnp.shape(x)[len(leading) :])
            return jax.ShapeDtypeStruct(shape, jnp.result_type(x), sharding=place)

        batch = jax.tree.map(lambda x: struct(x, batch_size), self.network.batch)
        begin = time.perf_counter()
        lowered = step.lower(jax.tree.map(struct, state), batch)
        what = (self.target, self.network_name, self.network.num_tasks, batch_size)
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            seconds = time.perf_counter() - begin
            return Row(*what, self.method, self.mode, seconds, *(0,) * 7, fits=False)
        seconds = time.perf_counter() - begin
        found = figures.figures(hlo.parse(compiled.as_text()))
        needed = steps.needed_bytes(compiled)
        return Row(
            *what,
            self.method,
            self.mode,
            seconds,
            needed,
            compiled.memory_analysis().temp_size_in_bytes,
            found.traffic,
            found.flops,
            found.kernels,
            found.waits,
            found.estimated_cycles,
            needed <= targets.TARGETS[self.target].memory,
        )

    def largest_batch(self, fitting: Row) -> int:
        """The largest batch that fits, to two digits.

        What a step needs grows in proportion to its batch, but for what does not depend on it.  So
        it is extrapolated from two sizes until the larger one nearly fills the memory.
        """
        memory = targets.TARGETS[self.target].memory
        below, above = fitting, self.row(2 * fitting.batch_size)
        while above.fits and above.batch_size > below.batch_size:
            slope = (above.needed - below.needed) / (above.batch_size - below.batch_size)
            if slope <= 0:
                break
            guess = _two_digits(above.batch_size + (memory - above.needed) / slope)
            below, above = above, self.row(max(guess, above.batch_size))
        if above.fits:
            return above.batch_size
        size, too_large = below.batch_size, above.batch_size
        while (middle := _two_digits((size + too_large) / 2)) not in (size, too_large):
            if self.row(middle).fits:
                size = middle
            else:
                too_large = middle
        return size


def _two_digits(size: float) -> int:
    """Rounded down to two digits."""
    unit = 10 ** max(len(str(int(size))) - 2, 0)
    return int(size) // unit * unit


def _batch_size(network: Network) -> int:
    return len(jax.tree.leaves(network.batch)[0])


def _key(row: Row) -> tuple[Any, ...]:
    return row[: Row._fields.index("compile_seconds")]


def _others(known: dict[Any, Row], rows: Sequence[Row]) -> list[Row]:
    """The known rows that are not among `rows`."""
    here = set(map(_key, rows))
    return [row for key, row in known.items() if key not in here]


def _known(config: Perf) -> list[Row]:
    """The rows that a former call has written, if it was of the same code and packages."""
    try:
        record = json.loads((config.out / "compiled.json").read_text())
        if record["environment"] != run_log.environment():
            return []
        return [Row(**row) for row in record["compiled"]]
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return []


def _write(config: Perf, rows: Sequence[Row]) -> None:
    record = {
        "note": NOTE,
        "environment": run_log.environment(),
        "compiled": [row._asdict() for row in rows],
    }
    run_log.write_file(config.out / "compiled.json", json.dumps(record, indent=2) + "\n")
    run_log.write_file(config.out / "compiled.md", page(rows))
    compile_for_picture.draw(rows, config.out / "compiled.png")


_HEADINGS = ("step", "T", "mode", "temporary MB", "needed MB", "traffic MB", "GFLOP", "kernels")
_MORE_HEADINGS = ("waits", "Mcycles", "compiled in s")


def page(rows: Sequence[Row]) -> str:
    """A table in Markdown for each target, network and size of batches."""
    text = ""
    for what in dict.fromkeys((row.target, row.network, row.batch_size) for row in rows):
        here = [row for row in rows if (row.target, row.network, row.batch_size) == what]
        target, name, size = what
        searched = any(row.largest_batch for row in here)
        table = plain(
            (*_HEADINGS, *_MORE_HEADINGS, *(("largest batch",) if searched else ())),
            [
                (
                    display_name(row.method),
                    str(row.num_tasks),
                    row.mode,
                    *_cells(row),
                    *((str(row.largest_batch or "–"),) if searched else ()),
                )
                for row in here
            ],
        )
        kind = targets.TARGETS[target].kind
        text += f"**{kind}, {name}, batches of {size} ({NOTE})**\n\n"
        text += table_formats.markdown(table) + "\n"
    return text


def _cells(row: Row) -> list[str]:
    seconds = f"{row.compile_seconds:.0f}"
    if not row.needed:
        return ["does not fit", *[""] * 6, seconds]
    return [
        f"{row.temporary / 1e6:.0f}",
        f"{row.needed / 1e6:.0f}" + ("" if row.fits else " (too much)"),
        f"{row.traffic / 1e6:.0f}",
        f"{row.flops / 1e9:.1f}",
        str(row.kernels),
        str(row.waits) if row.waits else "–",
        f"{row.estimated_cycles / 1e6:.2f}" if row.estimated_cycles else "–",
        seconds,
    ]
