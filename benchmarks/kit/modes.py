"""`kit modes`: times the step of every mode next to that of equal weighting.

Each program takes turns with equal weighting's, on the same network, number of tasks and precision.
Results are written after each, and a command goes on where the one before it stopped.
"""

import functools
import json
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from benchmarks import run_log
from benchmarks.errors import UserError
from benchmarks.files import json_text
from benchmarks.kit import modes_table, source
from benchmarks.kit.deadline import Deadline
from benchmarks.perf import steps
from benchmarks.perf.compiled import needed_bytes
from benchmarks.perf.measurement import milliseconds, ratio
from benchmarks.perf.network import FORMS, MODES, README, Network, refresh_of
from benchmarks.perf.timing import in_turns
from benchmarks.progress import Say

FILE = "modes.json"
TABLE = "modes.md"

STAGES: tuple[tuple[str, ...], ...] = (
    (steps.EW, *MODES, steps.ROWS),
    (steps.EW, *FORMS, README),
)
"""The programs of a network: those that decide about the engine's modes come first."""

_TURN_SECONDS = 0.02
"""The length of a turn of equal weighting, of as many steps as it takes: a single one would measure
how fast the host starts it."""

_UNKNOWN_SECONDS = 60.0
"""What the first program of a network is expected to take."""


class Case(NamedTuple):
    """One program."""

    network: str
    num_tasks: int
    dtype: str
    mode: str


def cases(networks: Sequence[str], num_tasks: Sequence[int], dtypes: Sequence[str]) -> list[Case]:
    """All programs, the most important ones first."""
    if bad := [t for t in num_tasks if t < 2]:
        raise UserError(f"--num-tasks: expected numbers from 2 on, found {bad[0]}")
    ordered = [
        Case(network, t, dtype, mode)
        for modes in STAGES
        for dtype in dtypes
        for t in num_tasks
        for network in networks
        for mode in modes
    ]
    return list(dict.fromkeys(ordered))


def measure(
    out: pathlib.Path, wanted: Sequence[Case], rounds: int, deadline: Deadline, say: Say = print
) -> list[Case]:
    """Measures what the folder does not have yet, for as long as there is time.

    Args:
      out: folder of `modes.json` and `modes.md`.
      wanted: the programs, the most important ones first.
      rounds: number of timed turns of each program.
      deadline: when the command must have ended.
      say: prints a line.

    Returns:
      The programs that are left.

    Raises:
      UserError: if the folder has results of another device or another version of the program.
    """
    if rounds < 1:
        raise UserError(f"--rounds: expected at least 1, found {rounds}")
    run_log.make_folder(out)
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is measured, too
    record = _open(out)
    results: list[dict[str, Any]] = record["results"]
    known = {Case(*(r[name] for name in Case._fields)) for r in results}
    left = [case for case in wanted if case not in known]
    say(f"programs measured: {len(known)}, left: {len(left)}")
    while left and deadline.left > _expected(results, left[0].network):
        case = left.pop(0)
        record["running"] = case._asdict()
        _write(out, record)
        begin = time.perf_counter()
        try:
            result = _measured(case, rounds)
        # A program that does not fit in the device's memory must not end the others' measurement.
        except jax.errors.JaxRuntimeError as error:
            result = {"failed": " ".join(str(error).split())[:200]}
            _subject.cache_clear()  # equal weighting's state may be lost
        result["seconds"] = time.perf_counter() - begin
        results.append(record.pop("running") | result)
        say(f"{_line(results[-1])}; {len(left)} left, {max(deadline.left, 0):.0f} s")
        _write(out, record)
    _write(out, record)
    if left:
        say(f"time is over, programs left: {len(left)}; the same command goes on")
    say(f"written to {out}: {FILE}, {TABLE}")
    return left


def _measured(case: Case, rounds: int) -> dict[str, Any]:
    """The times, the memory and the compilation of a program."""
    network, ew, num_steps = _subject(*case[:3])
    program = ew if case.mode == steps.EW else steps.Program(network, case.mode)
    every = refresh_of(case.mode)
    own = every * math.ceil(num_steps / every)
    turns = {
        steps.EW: functools.partial(ew.run, num_steps),
        case.mode: functools.partial(program.run, own),
    }
    times = in_turns(turns, rounds)
    mine = [seconds / own for seconds in times[case.mode]]
    over_ew = ratio(mine, [seconds / num_steps for seconds in times[steps.EW]])
    return {
        "ratio": over_ew.value,
        "spread": over_ew.spread,
        "milliseconds": milliseconds(mine).value,
        "steps_per_turn": own,
        "compile_seconds": program.compile_seconds,
        "temporary": program.compiled.memory_analysis().temp_size_in_bytes,
        "needed": needed_bytes(program.compiled),
    }


@functools.lru_cache(maxsize=1)  # of the last case
def _subject(network: str, num_tasks: int, dtype: str) -> tuple[Network, steps.Program, int]:
    """A network, equal weighting's program, and the number of steps in its turns."""
    made = steps.NETWORKS[network](num_tasks, dtype)
    ew = steps.Program(made, steps.EW)
    (seconds,) = in_turns({steps.EW: functools.partial(ew.run, 1)}, 1)[steps.EW]
    return made, ew, max(1, round(_TURN_SECONDS / seconds))


def _expected(results: Sequence[dict[str, Any]], network: str) -> float:
    """The seconds that a network's next program may take: as long as the longest so far."""
    taken = [result["seconds"] for result in results if result["network"] == network]
    return max(taken, default=_UNKNOWN_SECONDS)


def _open(out: pathlib.Path) -> dict[str, Any]:
    """The record of the folder, or a new one."""
    environment = run_log.environment()
    fresh = {
        "source": source.identity(),
        "environment": environment,
        "matmul_precision": jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
        "results": [],
    }
    path = out / FILE
    found = json_text.read_object(path)
    if found is None:
        return fresh
    try:
        pairs = [
            ("device", found["environment"]["device"], environment["device"]),
            ("versions", found["environment"]["versions"], environment["versions"]),
            ("source", found["source"], fresh["source"]),
        ]
        modes_table.page(found)
        list(map(_line, found["results"]))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: expected results of this command, found another text") from error
    if (killed := found.pop("running", None)) is not None:  # it would be killed again
        found["results"].append(killed | {"failed": "the command was killed", "seconds": 0.0})
    for name, theirs, ours in pairs:
        if theirs != ours:
            raise UserError(
                f"--out: {out} has results of other {name}: {theirs} there, {ours} here; choose "
                "another folder"
            )
    return found


def _write(out: pathlib.Path, record: dict[str, Any]) -> None:
    run_log.write_file(out / FILE, json.dumps(record, indent=2) + "\n")
    run_log.write_file(out / TABLE, modes_table.page(record))


def _line(result: dict[str, Any]) -> str:
    name = "{network}, T = {num_tasks}, {dtype}, {mode}".format(**result)
    if "failed" in result:
        return f"{name}: failed: {result['failed'][:80]}"
    return (
        f"{name}: {result['milliseconds']:.2f} ms, {result['ratio']:.2f} of EW's, compiled in "
        f"{result['compile_seconds']:.1f} s"
    )
