"""Single faults of Python source, by a fixed list of operators, and a sample of them."""

import ast
import collections
import random
from collections.abc import Iterator
from typing import NamedTuple

COMPARISONS = {
    "Lt": ("LtE", "GtE"),
    "LtE": ("Lt", "Gt"),
    "Gt": ("GtE", "LtE"),
    "GtE": ("Gt", "Lt"),
    "Eq": ("NotEq",),
    "NotEq": ("Eq",),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
    "In": ("NotIn",),
    "NotIn": ("In",),
}
ARITHMETIC = {
    "Add": "Sub",
    "Sub": "Add",
    "Mult": "Div",
    "Div": "Mult",
    "FloorDiv": "Mult",
    "Mod": "FloorDiv",
    "Pow": "Mult",
    "BitAnd": "BitOr",
    "BitOr": "BitAnd",
}
NAMES = {
    "all": "any",
    "any": "all",
    "argmax": "argmin",
    "argmin": "argmax",
    "max": "min",
    "maximum": "minimum",
    "min": "max",
    "minimum": "maximum",
    "ones": "zeros",
    "ones_like": "zeros_like",
    "zeros": "ones",
    "zeros_like": "ones_like",
}
DROPPED = {
    "abs", "asarray", "astype", "clip", "conj", "copy", "exp", "isfinite", "log", "maximum",
    "minimum", "optimization_barrier", "safe_increment", "sign", "sort", "sorted", "sqrt",
    "square", "stop_gradient", "tuple", "varying_over",
}  # fmt: skip
"""Calls that are replaced by their first argument, or by the array whose method they are."""

COMMUTATIVE = {"maximum", "minimum", "max", "min", "promote_types", "result_type"}

OPTIONAL = {"strict", "name"}
"""Keywords that are not dropped: they change no value but errors and messages."""


class Mutant(NamedTuple):
    """A single fault: `old` at [start, end) of the source's bytes is `new`."""

    operator: str
    function: str
    line: str  # as it stands in the file
    old: str
    new: str
    start: int
    end: int

    @property
    def key(self) -> tuple[str, str, str]:
        return self.line, self.old, self.new

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]


def sample(source: bytes, number: int, seed: str) -> list[Mutant]:
    """So many mutants, spread over functions and operators; the same ones every time."""
    rest = list(mutants_of(source))
    random.Random(seed).shuffle(rest)
    chosen: list[Mutant] = []
    seen: collections.Counter[str] = collections.Counter()
    while rest and len(chosen) < number:
        best = min(rest, key=lambda m: (seen[m.line], seen[m.function] + 2 * seen[m.operator]))
        chosen.append(best)
        seen.update((best.line, best.function, best.operator))
        rest.remove(best)
    return sorted(chosen, key=lambda m: m.start)


def mutants_of(source: bytes) -> Iterator[Mutant]:
    """All mutants of a source text."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    for function, node in _nodes(ast.parse(source), "module"):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        old = source[start:end].decode()
        for operator, new in _changes(node):
            text = new if isinstance(node, ast.stmt) else f"({new})"
            if text.strip("()") != old.strip("()"):
                line = lines[node.lineno - 1].decode().strip()
                yield Mutant(operator, function, line, old, text, start, end)


def _nodes(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST]]:
    """The nodes that may be mutated: no imports, types, strings, or what an error says."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "format_spec"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_no_code(child):
                continue
            inside = child.name if isinstance(child, ast.FunctionDef) else function
            if isinstance(child, ast.expr | ast.stmt):
                yield inside, child
            if not isinstance(child, ast.Raise) and not _is_docstring(child):
                yield from _nodes(child, inside)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_no_code(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(node, ast.keyword):
        # An empty name is replaced by that of the function, which is the same.
        return node.arg in ("strict", "name")
    if isinstance(node, ast.Assign):
        is_list = isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
        is_type = ast.unparse(node.value).startswith(("ParamSpec(", "TypeVar(", "Var | Literal"))
        return is_list or is_type
    return isinstance(node, ast.AnnAssign) and (
        node.value is None or "TypeAlias" in ast.unparse(node.annotation)
    )


def _changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(operator, new text) of every mutation of a node itself."""
    match node:
        case ast.Compare(left, [op], [right]):
            for name in COMPARISONS[type(op).__name__]:
                changed = ast.Compare(left, [getattr(ast, name)()], [right])
                yield "comparison", ast.unparse(changed)
        case ast.BinOp(left, op, right):
            if (name := ARITHMETIC.get(type(op).__name__)) is not None:
                yield "arithmetic", ast.unparse(ast.BinOp(left, getattr(ast, name)(), right))
            if isinstance(op, ast.Add | ast.Sub | ast.BitAnd | ast.BitOr | ast.Mult):
                yield "operand", ast.unparse(left)
            if isinstance(op, ast.BitAnd | ast.BitOr):
                yield "operand", ast.unparse(right)
        case ast.BoolOp(op, values):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield "boolean", ast.unparse(ast.BoolOp(other, values))
            for i in range(len(values)):
                kept = values[:i] + values[i + 1 :]
                yield "operand", ast.unparse(kept[0] if len(kept) == 1 else ast.BoolOp(op, kept))
        case ast.UnaryOp(ast.Not() | ast.Invert() | ast.USub(), operand):
            yield "unary", ast.unparse(operand)
        case ast.Constant(bool(value)):
            yield "constant", str(not value)
        case ast.Constant(int(value)):
            yield "constant", str(value + 1)
        case ast.Constant(float(value)):
            yield "constant", str(2 * value if value else 1.0)
        case ast.Constant(str()):
            yield "string", repr("")
        case ast.IfExp(_, body, orelse):
            yield "branch", ast.unparse(body)
            yield "branch", ast.unparse(orelse)
        case ast.Call():
            yield from _changed_calls(node)
        case ast.If(test, _, []) if isinstance(test, ast.Name | ast.Attribute | ast.Call):
            yield "statement", "pass"
        case ast.Raise() | ast.AugAssign():
            yield "statement", "pass"
        case ast.Expr(ast.Call()):
            yield "statement", "pass"


def _changed_calls(node: ast.Call) -> Iterator[tuple[str, str]]:
    function = node.func
    name = getattr(function, "attr", getattr(function, "id", ""))
    if name in NAMES:
        before = ast.unparse(function).removesuffix(name)
        called = ast.parse(before + NAMES[name], mode="eval").body
        yield "name", ast.unparse(ast.Call(called, node.args, node.keywords))
    if name == "where" and len(node.args) == 3:
        which, first, second = node.args
        yield "branch", ast.unparse(ast.Call(function, [which, second, first], node.keywords))
        yield "branch", ast.unparse(first)
        yield "branch", ast.unparse(second)
    if name in DROPPED:
        on_module = ast.unparse(function).partition(".")[0] in ("jnp", "jax", "np", "optax", name)
        if on_module and node.args:
            yield "call", ast.unparse(node.args[0])
        elif not on_module:
            yield "call", ast.unparse(function.value)
    plain = not any(isinstance(a, ast.Starred) for a in node.args)
    if len(node.args) == 2 and plain and name not in COMMUTATIVE:
        yield "arguments", ast.unparse(ast.Call(function, node.args[::-1], node.keywords))
    for i, keyword in enumerate(node.keywords if name[:1].islower() else []):
        if keyword.arg is not None and keyword.arg not in OPTIONAL:
            kept = node.keywords[:i] + node.keywords[i + 1 :]
            yield "keyword", ast.unparse(ast.Call(function, node.args, kept))
