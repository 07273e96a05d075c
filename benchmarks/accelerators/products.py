"""The products of matrices and the convolutions of a compiled program: how many, how precise."""

import math
import re
from typing import NamedTuple

from benchmarks.accelerators.execution import executed, target, within
from benchmarks.accelerators.hlo import Array, Computation, Instruction, Program

_CUBLAS, _CUDNN = "__cublas$gemm", "__cudnn$conv"


class Product(NamedTuple):
    """A product of matrices, or a convolution."""

    result: tuple[int, ...]
    dtypes: tuple[str, ...]  # of the result and the operands
    flops: int  # of one run
    runs: int  # how often it runs; 0 in a branch that rarely does
    is_exact: bool  # whether its operands are not rounded


def products(program: Program) -> list[Product]:
    """All products of matrices and convolutions, wherever they are."""
    found = []
    for computation, instruction, runs in executed(program):
        for inner, one in within(program, computation, instruction):
            product = _product(inner, one)
            if product is not None:
                found.append(product._replace(runs=runs))
    return found


def _product(computation: Computation, instruction: Instruction) -> Product | None:
    """The product that an instruction is, if it is one."""
    called = target(instruction)
    is_product = instruction.opcode in ("dot", "convolution")
    if not is_product and not called.startswith((_CUBLAS, _CUDNN)):
        return None
    left, right = (computation.arrays(name)[0] for name in instruction.operands[:2])
    result = instruction.results[0]
    if instruction.opcode == "dot" or called.startswith(_CUBLAS):
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
        }.get(called, (result, right))
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
