"""`perf --compile-for`: what training steps would cost on accelerators, from compiled programs."""

import json
import time
from collections.abc import Iterator, Sequence
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
from benchmarks.perf.network import Network
from benchmarks.report import table_formats
from benchmarks.report.table import plain

NOTE = "compiled, not run"
"""What is said of every figure."""


class Row(NamedTuple):
    """The program of one training step on one device; sizes are bytes."""

    target: str
    network: str
    num_tasks: int
    method: str
    mode: str
    compile_seconds: float
    needed: int  # arguments, temporary memory and what is not written in their place
    temporary: int
    traffic: int  # between the chip and its main memory, in one step
    flops: int  # of products of matrices and convolutions
    kernels: int
    dependent_loops: int  # for which a GPU waits for its host
    estimated_cycles: int  # by XLA for TPUs, without waiting for memory: ratios only
    fits: bool


def measure(config: Perf, console: Console) -> list[Row]:
    """Compiles, prints, and writes `compiled.json`, `compiled.md` and `compiled.png` as it goes.

    Raises:
      UserError: for a target without its compiler, or an unknown method.
    """
    targets.prepare()
    for name in config.methods:
        methods.check(name)
    run_log.make_folder(config.out)
    rows: list[Row] = []
    for target in config.compile_for:
        device = targets.devices(target)[0]
        for name in config.networks:
            for num_tasks in config.num_tasks:
                network = steps.NETWORKS[name](num_tasks)
                for method, mode in _programs(config):
                    console.print(
                        f"{target}, {name}, T = {num_tasks}, {method}, {mode} ...", style="dim"
                    )
                    rows.append(_row(target, device, name, network, method, mode))
                    _write(config, rows)
    console.print(page(rows), soft_wrap=True, markup=False)
    console.print(f"written to {config.out}: compiled.json, compiled.md, compiled.png")
    return rows


def _programs(config: Perf) -> Iterator[tuple[str, str]]:
    """(method, mode): equal weighting, DB-MTL in every mode, and others as they are made."""
    yield "ew", steps.EW
    for mode in config.modes:
        yield "db_mtl", mode
    for name in methods.spelt_out(config.methods):
        if name in methods.OF_TWO_BATCHES:
            raise UserError(f"--methods: {name} reads two batches, expected methods that read one")
        yield name, "auto"
        yield name, "stream"


def _row(target: str, device: Any, name: str, network: Network, method: str, mode: str) -> Row:
    made = None
    if method not in ("ew", "db_mtl"):
        made = methods.build(method, network.num_tasks, labels=network.labels)
    step, state = steps.step_of(network, mode, made)
    place = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=place),
        (state, network.batch),
    )
    begin = time.perf_counter()
    lowered = step.lower(*shapes)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = time.perf_counter() - begin
        return Row(target, name, network.num_tasks, method, mode, seconds, *(0,) * 7, fits=False)
    seconds = time.perf_counter() - begin
    found = figures.figures(hlo.parse(compiled.as_text()))
    needed = steps.needed_bytes(compiled)
    return Row(
        target,
        name,
        network.num_tasks,
        method,
        mode,
        seconds,
        needed,
        compiled.memory_analysis().temp_size_in_bytes,
        found.traffic,
        found.flops,
        found.kernels,
        found.dependent_loops,
        found.estimated_cycles,
        needed <= targets.TARGETS[target].memory,
    )


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


def page(rows: Sequence[Row]) -> str:
    """A table in Markdown for each target and network."""
    text = ""
    for target, name in dict.fromkeys((row.target, row.network) for row in rows):
        here = [row for row in rows if (row.target, row.network) == (target, name)]
        table = plain(
            (*_HEADINGS, "waits", "Mcycles", "compiled in s"),
            [
                (display_name(row.method), str(row.num_tasks), row.mode, *_cells(row))
                for row in here
            ],
        )
        kind = targets.TARGETS[target].kind
        text += f"**{kind}, {name} ({NOTE})**\n\n{table_formats.markdown(table)}\n"
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
        str(row.dependent_loops) if row.dependent_loops else "–",
        f"{row.estimated_cycles / 1e6:.2f}" if row.estimated_cycles else "–",
        seconds,
    ]
