"""What a compiled program takes: counted, not measured."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import jax

from benchmarks.accelerators import hlo
from benchmarks.accelerators.figures import Figures, figures
from benchmarks.files import expected
from benchmarks.files.expected import COUNT, NAME, NUMBER, OBJECT, Kind, list_of, optional

Program = TypeVar("Program", bound=tuple[Any, ...])
"""A NamedTuple that says which program it is."""


class Compiled(NamedTuple, Generic[Program]):
    """A compiled program and what it takes on one device; sizes are bytes."""

    program: Program
    parameters: int  # of the model, on all devices
    compile_seconds: float
    kept: int = 0  # arguments: parameters, and the state of method and optimizer
    temporary: int = 0
    needed: int | None = None  # both, and results not written in their place; None: refused
    counts: Figures = Figures(0, 0, 0, {}, 0, 0)
    largest_batch: int | None = None  # that fits; None: not looked for

    def fits(self, memory: int) -> bool:
        """Whether a device with so many bytes has room for it."""
        return self.needed is not None and self.needed <= memory

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        program: Any = self.program
        return self._asdict() | {"program": program._asdict(), "counts": self.counts._asdict()}


def measure(
    program: Program, parameters: int, lower: Callable[[], jax.stages.Lowered]
) -> Compiled[Program]:
    """Compiles what `lower` lowers; a program may be too large for the device."""
    begin = time.perf_counter()
    lowered = lower()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Compiled(program, parameters, time.perf_counter() - begin)
    seconds = time.perf_counter() - begin
    # Any, as some backends do not support this call; those of CPUs and of the targets do.
    memory: Any = compiled.memory_analysis()
    return Compiled(
        program,
        parameters,
        seconds,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        needed_bytes(compiled),
        figures(hlo.parse(compiled.as_text())),
    )


def needed_bytes(compiled: Any) -> int:
    """The memory that a compiled program needs; donated arguments are counted once."""
    memory = compiled.memory_analysis()
    # On CPUs, `peak_memory_in_bytes` only contains the arguments.
    return (
        memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )


def from_json(record: Any, kind: type[Program], where: str) -> Compiled[Program]:
    """What `as_json` has written.

    Args:
      record: a value that was read from a file.
      kind: the NamedTuple that says which program it is; its fields are texts, counts or pairs.
      where: the file, for the message.

    Raises:
      UserError: if it is anything else.
    """
    found = _checked(record, _FIELDS, where)
    counts = _checked(record.get("counts"), _COUNTS, f"{where}: counts")
    fields = {name: _KIND_OF[of] for name, of in kind.__annotations__.items()}
    names = _checked(record.get("program"), fields, f"{where}: program")
    make: Any = kind
    program = make(**{n: tuple(v) if isinstance(v, list) else v for n, v in names.items()})
    return Compiled(program, counts=Figures(**counts), **found)


def _checked(record: Any, kinds: Mapping[Any, Kind], where: str) -> dict[str, Any]:
    """The fields of a record; those that may be null may also be missing."""
    expected.check(record, OBJECT, where)
    for name, kind in kinds.items():
        expected.check(record.get(name), kind, f"{where}: {name}")
    return {name: record.get(name) for name in kinds}


_FIELDS = {
    "parameters": COUNT,
    "compile_seconds": NUMBER,
    "kept": COUNT,
    "temporary": COUNT,
    "needed": optional(COUNT),
    "largest_batch": optional(COUNT),
}
_COUNTS = dict.fromkeys(Figures._fields, COUNT) | {
    "collectives": Kind(
        "an object of whole numbers",
        lambda x: OBJECT.holds(x) and all(map(COUNT.holds, x.values())),
    )
}
_KIND_OF: dict[Any, Kind] = {str: NAME, int: COUNT, tuple[int, int]: list_of(COUNT)}
"""What the fields of programs are in JSON."""
