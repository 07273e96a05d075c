"""The text of a compiled program, as XLA prints it: computations of instructions with shapes."""

import dataclasses
import functools
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = (.*)$")


class Array(NamedTuple):
    """The shape of one array, and how it lies."""

    dtype: str
    sizes: tuple[int, ...]
    minor_to_major: tuple[int, ...]
    tile: tuple[int, ...]  # the axes that lie innermost are padded to multiples of this
    space: int  # 0: the device's main memory; others are on the chip

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        """The bytes that it takes, with padding."""
        lying = [self.sizes[axis] for axis in reversed(self.minor_to_major)]
        for i, (size, tile) in enumerate(zip(lying[::-1], self.tile[::-1], strict=False), start=1):
            lying[-i] = -(-size // tile) * tile
        return math.prod(lying) * _bits(self.dtype) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a computation."""

    name: str
    opcode: str
    results: tuple[Array, ...]
    arguments: str  # what stands in its parentheses
    attributes: str  # what follows them
    is_root: bool

    @functools.cached_property
    def operands(self) -> list[str]:
        """The names of its operands."""
        return _NAME.findall(self.arguments)

    def called(self, *attributes: str) -> list[str]:
        """The computations that it names in these attributes."""
        found: list[str] = []
        for attribute in attributes:
            for group in re.findall(rf"\b{attribute}=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes):
                found += _NAME.findall(group)
        return found


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in the order in which they run."""

    instructions: Mapping[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        """What it returns."""
        return next(i for i in self.instructions.values() if i.is_root)

    @functools.cached_property
    def parameters(self) -> list[Instruction]:
        """Its parameters, by number."""
        found = [i for i in self.instructions.values() if i.opcode == "parameter"]
        return sorted(found, key=lambda i: int(i.arguments))

    @functools.cached_property
    def users(self) -> Mapping[str, list[Instruction]]:
        """For every instruction those that have it as an operand."""
        found: dict[str, list[Instruction]] = defaultdict(list)
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found[operand].append(instruction)
        return found

    def arrays(self, name: str) -> tuple[Array, ...]:
        """What an instruction results in."""
        return self.instructions[name].results


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a program by name."""

    computations: Mapping[str, Computation]
    entry: Computation


def parse(text: str | None) -> Program:
    """Reads `compiled.as_text()`, which is None on backends that do not print programs.

    Raises:
      ValueError: if there is no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry = None
    instructions: dict[str, Instruction] = {}
    for line in (text or "").splitlines():
        if head := _HEAD.match(line):
            instructions = {}
            computations[head[2]] = Computation(instructions)
            if head[1]:
                entry = computations[head[2]]
        elif found := _LINE.match(line):
            instructions[found[2]] = _instruction(found[2], found[3], bool(found[1]))
    if entry is None:
        raise ValueError("text: expected the text of a compiled program, found no ENTRY")
    return Program(computations, entry)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    shape, rest = _split(text) if text.startswith("(") else text.split(" ", 1)
    opcode, _, rest = rest.strip().partition("(")
    arguments, attributes = _split("(" + rest)
    results = tuple(_array(*found) for found in _ARRAY.findall(shape))
    return Instruction(name, opcode, results, arguments[1:-1], attributes, is_root)


def _split(text: str) -> tuple[str, str]:
    """A text that starts with a parenthesis, cut behind the one that closes it."""
    depth = 0
    for found in re.finditer(r"[()]", text):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return text[: found.end()], text[found.end() :]
    raise ValueError(f"text: expected as many closing as opening parentheses, found {text!r}")


def _array(dtype: str, sizes: str, layout: str) -> Array:
    shape = tuple(map(int, filter(None, sizes.split(","))))
    order, _, rest = layout.partition(":")
    tile = re.match(r"T\(([\d,]*)\)", rest)
    space = re.search(r"S\((\d+)\)", rest)
    return Array(
        dtype,
        shape,
        tuple(map(int, filter(None, order.split(",")))) or tuple(reversed(range(len(shape)))),
        tuple(map(int, tile[1].split(","))) if tile else (),
        int(space[1]) if space else 0,
    )


def _bits(dtype: str) -> int:
    if dtype in ("pred", "token", "opaque"):
        return {"pred": 8}.get(dtype, 0)
    width = re.match(r"[a-z]+(\d+)", dtype)
    return int(width[1]) if width else 0
