"""Linear algebra over stacked task gradients, leaf by leaf, without ever forming a flat [T, P].

A *stack* is a sequence of arrays [T, *shape], the shared leaves.  Everything accumulates in
float32 at least.
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from dbmtl_jax.core._types import Array, DTypeLike, Float, Mask, PerTask, PyTree, Scalar, Shaped


def wide_dtype(*arrays: Array | jax.ShapeDtypeStruct) -> jnp.dtype:
    """The widest of the arrays' dtypes, float32 at least; complex if one of them is."""
    return functools.reduce(jnp.promote_types, (x.dtype for x in arrays), jnp.dtype(jnp.float32))


def accumulation_dtype(*arrays: Array | jax.ShapeDtypeStruct) -> jnp.dtype:
    """The dtype of norms and inner products: the real one of `wide_dtype`."""
    return jnp.finfo(wide_dtype(*arrays)).dtype


def real_leaves(leaves: Sequence[Array]) -> list[Array]:
    """The leaves with real and imaginary part in the place of each complex one.

    So ‖g‖² is Σ |g_i|², and ⟨g, h⟩ is Re Σ g_i h̄_i.
    """
    found: list[Array] = []
    for leaf in leaves:
        is_complex = jnp.issubdtype(leaf.dtype, jnp.complexfloating)
        found += [leaf.real, leaf.imag] if is_complex else [leaf]
    return found


def stacked_zeros(num_tasks: int, params: PyTree, dtype: DTypeLike | None = None) -> PyTree:
    """Zeros [T, *shape] for every parameter [*shape], in its dtype and float32 at least.

    On a mesh they lie as the parameter does, and none is divided along the tasks.
    """

    def zeros(param: Array) -> Array:
        # Made of the parameter, whose place they take over: inside of a program `zeros_like` does
        # not know of it.  The compiler drops the selection.
        row = jnp.where(False, param, 0).astype(dtype or wide_dtype(param))
        return jnp.broadcast_to(row, (num_tasks, *row.shape))

    return jax.tree.map(zeros, params)


def task_vector(num_tasks: int, value: Scalar, params: PyTree) -> PerTask:
    """A value for every task, in the dtype in which norms over these parameters accumulate."""
    return jnp.full((num_tasks,), value, accumulation_dtype(*jax.tree.leaves(params)))


def squared_norm(leaves: Sequence[Array]) -> Float[Array, ""]:
    """‖g‖² of one gradient over all leaves together."""
    return squared_norms([leaf[None] for leaf in leaves], 1)[0]


def squared_norms(stack: Sequence[Array], num_tasks: int) -> PerTask:
    """‖g_t‖² over all leaves together, [T].

    Reductions of the whole stacked leaf: XLA's CPU backend threads and vectorises them, where
    slicing a task out first and reducing that to a scalar is serial.
    """
    total = jnp.zeros((num_tasks,), accumulation_dtype(*stack))
    for leaf in real_leaves(stack):
        wide = leaf.astype(accumulation_dtype(leaf))
        if leaf.ndim > 2 and leaf.size >= _LONG * num_tasks * leaf.shape[1]:
            total += jax.lax.platform_dependent(wide, cpu=_squares_by_row, default=_squares)
        else:
            total += _squares(wide)
    return total


# Numbers in a row that are worth a reduction of their own.
_LONG = 64


def _squares(leaf: Array) -> Array:
    """[T, *shape] to [T]."""
    return jnp.sum(leaf * leaf, axis=tuple(range(1, leaf.ndim)))


def _squares_by_row(leaf: Array) -> Array:
    """`_squares` in two reductions: T results are too few to share out among threads evenly."""
    rows = jnp.sum(leaf * leaf, axis=tuple(range(2, leaf.ndim)))
    return jnp.sum(jax.lax.optimization_barrier(rows), axis=1)


def gramian(stack: Sequence[Array], num_tasks: int) -> Float[Array, "T T"]:
    """M = G Gᵀ summed over the leaves, [T, T]."""
    total = jnp.zeros((num_tasks, num_tasks), accumulation_dtype(*stack))
    for leaf in real_leaves(stack):
        if _is_divided(leaf):
            total += _products_of_divided(leaf, leaf)
        elif leaf.size > _BLOCK * num_tasks:
            flat = leaf.reshape(num_tasks, -1)
            total += jax.lax.platform_dependent(flat, cpu=_blockwise, default=_products_of_itself)
        else:
            total += _products_of_itself(leaf.reshape(num_tasks, -1))
    return total


# XLA's CPU backend multiplies a long [T, n] by its transpose several times slower than pieces of it
# that stay in the cache.
_BLOCK = 2**15
# The number of tasks beyond which it multiplies a transposed copy faster: with several threads.
_MAX_BY_ROW = 4


def _products(first: Array, second: Array) -> Array:
    """G₁ G₂ᵀ of [T, n], [T, T]."""
    return jnp.matmul(
        first,
        second.T,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=wide_dtype(first, second),
    )


def _products_of_itself(rows: Array) -> Array:
    return _products(rows, rows)


def _products_of_columns(rows: Array) -> Array:
    """The products by a transposed copy, in which the numbers of a column lie side by side."""
    columns = jax.lax.optimization_barrier(rows.T)
    return jax.lax.dot_general(
        columns,
        columns,
        (((0,), (0,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=accumulation_dtype(rows),
    )


def cross_products(first: Array, second: Array) -> Float[Array, "T T"]:
    """Re G₁ G₂ᴴ of two stacked leaves [T, *shape], [T, T]."""
    second = second.conj()
    if _is_divided(first):
        return _products_of_divided(first, second).real
    flat = (leaf.reshape(leaf.shape[0], -1) for leaf in (first, second))
    return _products(*flat).real


def _products_of_divided(first: Array, second: Array) -> Array:
    """G₁ G₂ᵀ of [T, *shape] on a mesh, where XLA would gather rows whose axes become one.

    With explicit axes, where shardings are part of types, divided axes cannot become one, and what
    is summed over them must say where the sum is to be: on each device.  On one device CPUs would
    copy the rows for this form.
    """
    axes = tuple(range(1, first.ndim))
    return jax.lax.dot_general(
        first,
        second,
        ((axes, axes), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=wide_dtype(first, second),
        out_sharding=NamedSharding(jax.typeof(first).sharding.mesh, PartitionSpec()),
    )


def _blockwise(rows: Array) -> Array:
    """`_products_of_itself`, a block of columns at a time."""
    num_blocks = rows.shape[1] // _BLOCK

    products = _products_of_itself if rows.shape[0] <= _MAX_BY_ROW else _products_of_columns

    def add(i: Array, total: Array) -> Array:
        return total + products(jax.lax.dynamic_slice_in_dim(rows, i * _BLOCK, _BLOCK, axis=1))

    rest = _products_of_itself(rows[:, num_blocks * _BLOCK :])
    return jax.lax.fori_loop(0, num_blocks, add, rest)


def per_task(vector: Shaped[Array, " T"], leaf: Array) -> Array:
    """Reshapes a [T] vector so that it broadcasts against a stacked leaf [T, *shape]."""
    return vector.reshape(vector.shape + (1,) * (leaf.ndim - 1))


def scale_tasks(weights: PerTask, leaf: Array) -> Array:
    """w_t g_t for every row of a stacked leaf [T, *shape], in the leaf's dtype."""
    return (per_task(weights, leaf) * leaf).astype(leaf.dtype)


def weighted_sum(weights: PerTask, present: Mask, leaf: Array) -> Array:
    """Σ_t w_t g_t over the present tasks of a stacked leaf [T, *shape], in the leaf's dtype.

    Written out as a sum over tasks: one fusion that runs at memory speed and merges into the
    optimizer that follows, which a contraction (`tensordot`) never does.  Many tasks are summed a
    block at a time, or by a reduction of small leaves, so that the program does not grow with T.
    """
    num_tasks = weights.shape[0]
    is_small = leaf[0].size <= _SMALL
    if num_tasks <= (_MAX_OF_SMALL if is_small else _MAX_WRITTEN_OUT):
        total = _written_out(weights, present, leaf)
    elif is_small:
        total = _reduced(weights, present, leaf)
    else:
        total = _sum_of_blocks(weights, present, leaf)
    return total.astype(leaf.dtype)


# Numbers in a row so few that the speed of their sum does not matter.
_SMALL = 2**12
# The numbers of tasks beyond which a sum that is written out takes longer to compile than it saves.
_MAX_OF_SMALL, _MAX_WRITTEN_OUT = 16, 32
_TASKS_OF_BLOCK = 8


def _reduced(weights: PerTask, present: Mask, leaf: Array) -> Array:
    """A reduction over the tasks."""
    rows = jnp.where(per_task(present, leaf), leaf, 0)
    return jnp.sum(per_task(weights, leaf) * rows, axis=0)


def _written_out(weights: PerTask, present: Mask, leaf: Array) -> Array:
    """w_0 g_0 + w_1 g_1 + …

    On several accelerators a reduction: where the sum is to be divided in another way than the
    stacked leaf, XLA would send every row that is sliced out of it, and not the sum alone.
    """
    if _is_divided(leaf):
        return jax.lax.platform_dependent(
            weights, present, leaf, cpu=_sum_of_rows, default=_reduced
        )
    return _sum_of_rows(weights, present, leaf)


def _is_divided(leaf: Array) -> bool:
    """Whether XLA may divide an array among devices: not without a mesh, nor in a `shard_map`."""
    mesh = jax.typeof(leaf).sharding.mesh
    return any(
        size > 1 and kind != jax.sharding.AxisType.Manual
        for size, kind in zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    )


def _sum_of_rows(weights: PerTask, present: Mask, leaf: Array) -> Array:
    rows = (weights[t] * jnp.where(present[t], leaf[t], 0) for t in range(weights.shape[0]))
    return functools.reduce(operator.add, rows)


def _sum_of_blocks(weights: PerTask, present: Mask, leaf: Array) -> Array:
    """`_written_out` for blocks of tasks, one after the other."""
    num_blocks, rest = divmod(weights.shape[0], _TASKS_OF_BLOCK)
    arrays = (weights, present, leaf)

    def add(i: Array, total: Array) -> Array:
        begin = rest + i * _TASKS_OF_BLOCK
        block = (jax.lax.dynamic_slice_in_dim(x, begin, _TASKS_OF_BLOCK) for x in arrays)
        return total + _written_out(*block)

    wide = jnp.result_type(weights, leaf)
    first = _written_out(*(x[:rest] for x in arrays)) if rest else jnp.zeros_like(leaf[0], wide)
    return jax.lax.fori_loop(0, num_blocks, add, first)
