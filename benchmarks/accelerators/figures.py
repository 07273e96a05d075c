"""What a compiled program costs: figures that are counted from its text, not measured.

What is counted can be trusted: which products there are and how precise, the kernels that start,
the bytes that pass between the chip and its main memory. How long they take cannot be read.
"""

import collections
import re
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.accelerators.execution import executed, target
from benchmarks.accelerators.hlo import Array, Computation, Instruction, Program
from benchmarks.accelerators.products import products

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Figures(NamedTuple):
    """What a program costs on one device, counted from its text."""

    traffic: int  # bytes between the chip and its main memory
    flops: int  # of products of matrices and convolutions
    kernels: int
    collectives: dict[str, int]  # kind -> bytes of what it results in
    estimated_cycles: int  # by XLA, on TPUs; without waiting for memory
    waits: int  # runs of branches and of loops whose length depends on data, counted as one trip


def figures(program: Program) -> Figures:
    """Counts what a program does, loops times their lengths."""
    traffic = kernels = cycles = waits = 0
    collectives: collections.Counter[str] = collections.Counter()
    for computation, instruction, runs in executed(program):
        if instruction.opcode in ("while", "conditional"):
            waits += runs
            continue
        kernels += runs
        traffic += runs * _traffic(program, computation, instruction)
        cycles += runs * _cycles(instruction)
        found = _collective(program, instruction)
        if found is not None:
            kind, sent = found
            collectives[kind] += runs * sum(a.bytes for a in sent)
    flops = sum(product.flops * product.runs for product in products(program))
    return Figures(traffic, flops, kernels, dict(collectives), cycles, waits)


def dtypes(program: Program) -> set[str]:
    """The types of all numbers in a program."""
    return {
        array.dtype
        for computation in program.computations.values()
        for instruction in computation.instructions.values()
        for array in instruction.results
    }


def host_transfers(program: Program) -> list[str]:
    """The instructions that wait for the host."""
    found = []
    for computation in program.computations.values():
        for instruction in computation.instructions.values():
            called = target(instruction)
            waits = instruction.opcode.removesuffix("-start").removesuffix("-done") in (
                "infeed", "outfeed", "recv", "send",
            )  # fmt: skip
            if waits or "callback" in called or "Host" in called:
                found.append(instruction.name)
    return found


def _traffic(program: Program, computation: Computation, instruction: Instruction) -> int:
    """Bytes that an instruction reads from and writes to main memory."""
    opcode, results = instruction.opcode, instruction.results
    operands = [a for name in instruction.operands for a in computation.arrays(name)[:1]]
    if opcode in ("copy-start", "slice-start"):
        # What is copied has the size of the smaller side, read or written where it is in memory.
        arrays = [a for a in results if a.dtype not in ("u32", "s32") or a.sizes]
        size = min((a.bytes for a in arrays), default=0)
        return size * sum(a.space == 0 for a in arrays[:2])
    if opcode in ("slice", "dynamic-slice", "gather"):
        return sum(a.bytes for a in results if not a.space) * (1 if operands[0].space else 2)
    if opcode == "dynamic-update-slice":
        return 2 * operands[1].bytes if not results[0].space else 0
    if opcode == "fusion":
        (name,) = instruction.called("calls")
        fused = program.computations[name]
        read = sum(
            _read(program, fused, parameter.name)
            for parameter, array in zip(fused.parameters, operands, strict=True)
            if not array.space
        )
        return read + _written(fused, instruction.results)
    return sum(a.bytes for a in (*operands, *results) if not a.space)


def _read(program: Program, fused: Computation, name: str) -> int:
    """Bytes that a fused computation reads of a parameter that lies in main memory."""
    whole = fused.arrays(name)[0].bytes
    total = 0
    for user in fused.users.get(name, []):
        if user.opcode in ("slice", "dynamic-slice", "gather") and user.operands[0] == name:
            total += user.results[0].bytes
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            continue  # in place: the rest is not touched
        elif user.opcode == "bitcast":
            total += _read(program, fused, user.name)
        elif user.opcode == "fusion":
            inner = program.computations[user.called("calls")[0]]
            for place, operand in enumerate(user.operands):
                if operand == name:
                    total += _read(program, inner, inner.parameters[place].name)
        else:
            return whole
    return min(total, whole)


def _written(fused: Computation, results: tuple[Array, ...]) -> int:
    """Bytes that a fused computation writes to main memory."""
    root = fused.root
    names = root.operands if root.opcode == "tuple" else [root.name] * len(results)
    total = 0
    for name, array in zip(names, results, strict=True):
        if array.space:
            continue
        made = fused.instructions[name]
        while made.opcode == "bitcast":
            made = fused.instructions[made.operands[0]]
        if made.opcode == "dynamic-update-slice":
            total += fused.arrays(made.operands[1])[0].bytes
        else:
            total += array.bytes
    return total


def _collective(program: Program, instruction: Instruction) -> tuple[str, Sequence[Array]] | None:
    """The kind of a collective, and what it results in."""
    kind, results = instruction.opcode.removesuffix("-start"), instruction.results
    if kind in COLLECTIVES:
        if instruction.opcode == "collective-permute-start":
            results = results[1:2]  # operand, result, and counters
        elif instruction.opcode.endswith("-start") and len(results) > 1:
            results = results[len(results) // 2 :]  # operands, then results
        return kind, results
    for name in instruction.called("calls"):
        # On TPUs a reduce-scatter is a fusion that calls a computation of that name, and a fusion
        # starts a collective that goes on in the fusions behind it.
        if name.startswith("all-reduce-scatter"):
            return "reduce-scatter", results
        fused = program.computations[name]
        if target(fused.root) == "AsyncCollectiveStart":
            return _collective(program, fused.instructions[fused.root.operands[0]])
    return None


def _cycles(instruction: Instruction) -> int:
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    return int(found[1]) if found else 0
