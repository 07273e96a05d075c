"""What of a compiled program starts on the device, and how often."""

import re
from collections.abc import Iterable

from benchmarks.accelerators.hlo import Computation, Instruction, Program

# They start nothing: they name what is there, or wait for what was started before.
_FREE = {
    "after-all", "bitcast", "constant", "get-tuple-element", "opt-barrier", "parameter",
    "partition-id", "replica-id", "tuple",
}  # fmt: skip


def executed(
    program: Program, computation: Computation | None = None, runs: int = 1
) -> Iterable[tuple[Computation, Instruction, int]]:
    """What starts on the device, with how often.

    A loop whose length depends on data is itself among it, and so is a choice of branches.  Of
    branches the one with the fewest instructions runs, the others 0 times: what is rarely needed,
    such as the case of a task whose gradient is not finite, is the longer one.
    """
    computation = computation or program.entry
    for instruction in computation.instructions.values():
        opcode = instruction.opcode
        if opcode in _FREE or opcode.endswith("-done") or target(instruction) == "AllocateBuffer":
            continue
        if opcode == "while":
            trips = _trips(program, computation, instruction)
            if trips is None:
                yield computation, instruction, runs
                trips = 1
            for name in instruction.called("condition", "body"):
                yield from executed(program, program.computations[name], runs * trips)
        elif opcode == "conditional":
            names = instruction.called(
                "branch_computations", "true_computation", "false_computation"
            )
            yield computation, instruction, runs
            branches = [list(executed(program, program.computations[n], runs)) for n in names]
            usual = min(range(len(branches)), key=lambda i: sum(bool(r) for *_, r in branches[i]))
            for number, branch in enumerate(branches):
                for inner, one, times in branch:
                    yield inner, one, times if number == usual else 0
        elif opcode in ("call", "async-start"):
            for name in instruction.called("to_apply", "calls"):
                yield from executed(program, program.computations[name], runs)
        else:
            yield computation, instruction, runs


def _trips(program: Program, computation: Computation, loop: Instruction) -> int | None:
    """How often a loop runs; None if that is not known, 0 never."""
    known = re.search(r'"?known_trip_count"?:\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known[1])
    # TPU programs only have the comparison of a counter with a constant.
    (name,) = loop.called("condition")
    condition = program.computations[name]
    if condition.root.opcode != "compare" or "direction=LT" not in condition.root.attributes:
        return None
    counter, limit = (condition.instructions[n] for n in condition.root.operands)
    place = re.search(r"index=(\d+)", counter.attributes)
    start = computation.instructions[loop.operands[0]]
    if limit.opcode != "constant" or place is None or start.opcode != "tuple":
        return None
    first = computation.instructions[start.operands[int(place[1])]]
    while first.opcode in ("copy", "bitcast"):
        first = computation.instructions[first.operands[0]]
    return int(limit.arguments) - int(first.arguments) if first.opcode == "constant" else None


def within(
    program: Program, computation: Computation, instruction: Instruction
) -> Iterable[tuple[Computation, Instruction]]:
    """An instruction, or those of its fused computation."""
    if instruction.opcode != "fusion":
        yield computation, instruction
        return
    for name in instruction.called("calls"):
        fused = program.computations[name]
        for one in fused.instructions.values():
            yield from within(program, fused, one)


def target(instruction: Instruction) -> str:
    """What a custom call calls; empty for other instructions."""
    found = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    return found[1] if found else ""
