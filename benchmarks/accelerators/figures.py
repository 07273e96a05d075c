"""What a compiled program costs: figures that are counted from its text, not measured.

What is counted can be trusted: which products there are and how precise, the kernels that start,
the bytes that pass between the chip and its main memory. How long they take cannot be read.
"""

import collections
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.accelerators.hlo import Array, Computation, Instruction, Program

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

# They start nothing: they name what is there, or wait for what was started before.
_FREE = {
    "after-all", "bitcast", "constant", "get-tuple-element", "opt-barrier", "parameter",
    "partition-id", "replica-id", "tuple",
}  # fmt: skip
_CUBLAS, _CUDNN = "__cublas$gemm", "__cudnn$conv"


class Product(NamedTuple):
    """A product of matrices, or a convolution."""

    result: tuple[int, ...]
    dtypes: tuple[str, ...]  # of the result and the operands
    flops: int  # of one run
    runs: int  # how often it runs
    is_exact: bool  # whether its operands are not rounded


class Figures(NamedTuple):
    """What a program costs on one device, counted from its text."""

    traffic: int  # bytes between the chip and its main memory
    flops: int  # of products of matrices and convolutions
    kernels: int
    collectives: dict[str, int]  # kind -> bytes of what it results in
    estimated_cycles: int  # by XLA, on TPUs; without waiting for memory
    dependent_loops: int  # runs of loops whose length depends on data; each counts as one trip


def figures(program: Program) -> Figures:
    """Counts what a program does, loops times their lengths."""
    traffic = kernels = cycles = dependent = 0
    collectives: collections.Counter[str] = collections.Counter()
    for computation, instruction, runs in _executed(program):
        if instruction.opcode == "while":
            dependent += runs
            continue
        kernels += runs
        traffic += runs * _traffic(program, computation, instruction)
        cycles += runs * _cycles(instruction)
        kind = _collective(program, instruction)
        if kind is not None:
            sent = instruction.results
            if instruction.opcode.endswith("-start") and len(sent) > 1:
                sent = sent[len(sent) // 2 :]  # operands, then results
            collectives[kind] += runs * sum(a.bytes for a in sent)
    flops = sum(product.flops * product.runs for product in products(program))
    return Figures(traffic, flops, kernels, dict(collectives), cycles, dependent)


def products(program: Program) -> list[Product]:
    """All products of matrices and convolutions, wherever they are."""
    found = []
    for computation, instruction, runs in _executed(program):
        for inner, one in _within(program, computation, instruction):
            product = _product(inner, one)
            if product is not None:
                found.append(product._replace(runs=runs))
    return found


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
            target = _target(instruction)
            waits = instruction.opcode.removesuffix("-start").removesuffix("-done") in (
                "infeed", "outfeed", "recv", "send",
            )  # fmt: skip
            if waits or "callback" in target or "Host" in target:
                found.append(instruction.name)
    return found


def _executed(
    program: Program, computation: Computation | None = None, runs: int = 1
) -> Iterable[tuple[Computation, Instruction, int]]:
    """What starts on the device, with how often: of branches the one with the most.

    A loop whose length depends on data is itself among it.
    """
    computation = computation or program.entry
    for instruction in computation.instructions.values():
        opcode = instruction.opcode
        if opcode in _FREE or opcode.endswith("-done") or _target(instruction) == "AllocateBuffer":
            continue
        if opcode == "while":
            trips = _trips(program, computation, instruction)
            if trips is None:
                yield computation, instruction, runs
                trips = 1
            for name in instruction.called("condition", "body"):
                yield from _executed(program, program.computations[name], runs * trips)
        elif opcode == "conditional":
            names = instruction.called(
                "branch_computations", "true_computation", "false_computation"
            )
            branches = [list(_executed(program, program.computations[n], runs)) for n in names]
            yield from max(branches, key=len)
        elif opcode in ("call", "async-start"):
            for name in instruction.called("to_apply", "calls"):
                yield from _executed(program, program.computations[name], runs)
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


def _within(
    program: Program, computation: Computation, instruction: Instruction
) -> Iterable[tuple[Computation, Instruction]]:
    """An instruction, or those of its fused computation."""
    if instruction.opcode != "fusion":
        yield computation, instruction
        return
    for name in instruction.called("calls"):
        fused = program.computations[name]
        for one in fused.instructions.values():
            yield from _within(program, fused, one)


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


def _collective(program: Program, instruction: Instruction) -> str | None:
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in COLLECTIVES:
        return opcode
    # On TPUs a reduce-scatter is a fusion that calls a computation of that name.
    if any(name.startswith("all-reduce-scatter") for name in instruction.called("calls")):
        return "reduce-scatter"
    return None


def _cycles(instruction: Instruction) -> int:
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    return int(found[1]) if found else 0


def _target(instruction: Instruction) -> str:
    found = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    return found[1] if found else ""


def _product(computation: Computation, instruction: Instruction) -> Product | None:
    """The product that an instruction is, if it is one."""
    target = _target(instruction)
    is_product = instruction.opcode in ("dot", "convolution")
    if not is_product and not target.startswith((_CUBLAS, _CUDNN)):
        return None
    left, right = (computation.arrays(name)[0] for name in instruction.operands[:2])
    result = instruction.results[0]
    if instruction.opcode == "dot" or target.startswith(_CUBLAS):
        axes = _numbers(instruction, "lhs_contracting_dim(?:s|ensions)")
        flops = 2 * result.numbers * math.prod(left.sizes[axis] for axis in axes)
    elif instruction.opcode == "convolution":
        flops = 2 * _taps(instruction, left, right, result)
    else:
        features = re.search(r"dim_labels=\w+_(\w+)->", instruction.attributes)
        assert features is not None
        activations, filters = {
            "__cudnn$convBackwardFilter": (right, result),
            "__cudnn$convBackwardInput": (left, right),
        }.get(target, (result, right))
        flops = 2 * activations.numbers * filters.numbers // filters.sizes[features[1].index("o")]
    dtypes = tuple(array.dtype for array in (result, left, right))
    precision = re.search(r'operand_precision"?[=:][{\[]"?(\w+)"?,"?(\w+)', instruction.attributes)
    highest = precision is not None and {p.lower() for p in precision.groups()} == {"highest"}
    is_exact = highest and not {"bf16", "f16"} & set(dtypes)
    return Product(result.sizes, dtypes, flops, 1, is_exact)


def _numbers(instruction: Instruction, attribute: str) -> list[int]:
    """The numbers in an attribute, as HLO or as JSON."""
    found = re.search(rf'{attribute}"?[=:]([{{\[][^}}\]]*[}}\]])', instruction.attributes)
    return [int(n) for n in re.findall(r"\d+", found[1])] if found else []


def _taps(instruction: Instruction, left: Array, right: Array, result: Array) -> int:
    """The multiplications of a convolution: only where a filter's tap meets an entry."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels is not None
    images, filters, output = labels.groups()
    window = _window(instruction)
    space = [label for label in filters if label.isdigit()]
    total = 1
    for axis, label in enumerate(sorted(space, key=int)):
        size = right.sizes[filters.index(label)]
        total *= _meetings(
            left.sizes[images.index(label)],
            size,
            result.sizes[output.index(label)],
            **{name: values[axis] for name, values in window.items()},
        )
    total *= result.sizes[output.index("b")] * result.sizes[output.index("f")]
    # A filter's input features are those of its group.
    return total * right.sizes[filters.index("i")]


def _window(instruction: Instruction) -> dict[str, list[int]]:
    """Strides and the like of a convolution, for every spatial axis."""
    text = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    fields = dict(part.split("=", 1) for part in text[1].split()) if text else {}
    sizes = fields.get("size", "")
    count = len(sizes.split("x")) if sizes else 0

    def ints(name: str, default: int) -> list[int]:
        return [int(x) for x in fields[name].split("x")] if name in fields else [default] * count

    pads = [int(pair.split("_")[0]) for pair in fields["pad"].split("x")] if "pad" in fields else []
    return {
        "stride": ints("stride", 1),
        "low": pads or [0] * count,
        "image_dilation": ints("lhs_dilate", 1),
        "filter_dilation": ints("rhs_dilate", 1),
    }


def _meetings(
    size: int,
    filter_size: int,
    output_size: int,
    stride: int,
    low: int,
    image_dilation: int,
    filter_dilation: int,
) -> int:
    """Pairs of an output and a tap along one axis that meet an entry of the image."""
    last = (size - 1) * image_dilation
    return sum(
        0 <= place <= last and place % image_dilation == 0
        for output in range(output_size)
        for tap in range(filter_size)
        for place in (output * stride - low + tap * filter_dilation,)
    )
