"""Task gradients that are not computed yet: `stream=True`.

Row t of the Jacobian J is a pullback of a cotangent, J_t = f(c_t), and f is linear.  So a weighted
sum of rows is one pullback of the weighted cotangent, norms need one row at a time, and the
Gramian J Jᵀ is made of columns J J_tᵀ, each a row pushed forward again.  What a method does not
ask for is never computed, and no array [T, *shape] exists unless it asks for that.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from dbmtl_jax import _partition
from dbmtl_jax._stack import Blend, StackedRows
from dbmtl_jax._strict import strict
from dbmtl_jax._task_linalg import accumulation_dtype, scale_tasks, squared_norms, weighted_sum
from dbmtl_jax._task_map import contains

_REFUSAL = (
    "these task gradients are pending (stream=True): only a transformation of dbmtl_jax can take "
    "them, which must come first in its optax.chain; `.stacked()` makes arrays [T, ...] of them"
)


class Jacobian(NamedTuple):
    """T gradients with regard to the shared leaves, as functions."""

    pull: Callable[[Any], list[jax.Array]]  # a cotangent to the shared leaves
    cotangents: Any  # leaves [T, ...]: row t of the Jacobian is pull(cotangents[t])
    linearize: Callable[[], Callable[[list[jax.Array]], Any]]  # () -> (shared leaves -> tangent)
    unroll: bool  # whether tasks follow each other in the program; else they run in a loop


def jacobian_of(
    fun: Callable[[Any], Any],
    params: Any,
    pullback: Callable[[Any], Any],
    cotangents: Any,
    labels: Any,
    *,
    unroll: bool,
) -> Jacobian:
    """The Jacobian of ⟨c_t, fun(params)⟩, t = 1 … T, given the pullback of `fun` at `params`.

    Args:
      fun: params -> a tree of arrays.
      params: its argument.
      pullback: a cotangent of what `fun` returns to one of params.
      cotangents: c, leaves [T, ...].
      labels: of params, one per leaf; the shared leaves are those of the Jacobian.
      unroll: whether tasks follow each other in the program.
    """
    leaves, structure = jax.tree.flatten(params)
    is_shared = [label == _partition.SHARED for label in jax.tree.leaves(labels)]

    def pull(cotangent: Any) -> list[jax.Array]:
        pulled = zip(jax.tree.leaves(pullback(cotangent)), is_shared, strict=True)
        return [leaf for leaf, here in pulled if here]

    def linearize() -> Callable[[list[jax.Array]], Any]:
        push = jax.linearize(fun, params)[1]

        def push_shared(row: list[jax.Array]) -> Any:
            rest = iter(row)
            tangents = [
                next(rest) if here else jnp.zeros_like(leaf)
                for leaf, here in zip(leaves, is_shared, strict=True)
            ]
            return push(jax.tree.unflatten(structure, tangents))

        return push_shared

    return Jacobian(pull, cotangents, linearize, unroll)


class PendingTaskGrads:
    """The gradients of T tasks before anybody computes them.

    Stands for the tree of stacked gradients that an engine function returns without
    `stream=True`, within the same trace (the same call of a jitted step), and is passed to
    `tx.update` in its place.  `stacked()` gives that tree.
    """

    def __init__(self, labels: Any, template: Any, jacobian: Jacobian) -> None:
        self._labels = labels
        self._template = template
        self._jacobian = jacobian

    @property
    def template(self) -> Any:
        """The tree of stacked gradients: a `jax.ShapeDtypeStruct` [T, *shape] for a shared leaf.

        A leaf of one task alone is there already, [*shape].
        """
        return self._template

    @property
    def jacobian(self) -> Jacobian:
        """What computes the shared leaves."""
        return self._jacobian

    def rows(self) -> "PendingRows":
        """The shared leaves as the rows of a `Stack`."""
        return PendingRows(self._jacobian, _partition.shared(self._labels, self._template))

    def scaled(self, weights: jax.Array, own_weights: jax.Array) -> "PendingTaskGrads":
        """Row t times w_t, and task t's own leaves times w'_t: still pending."""
        cotangents = jax.tree.map(
            lambda leaf: scale_tasks(weights, leaf), self._jacobian.cotangents
        )
        template = jax.tree.map(
            lambda label, leaf: (
                leaf
                if label == _partition.SHARED
                else (own_weights[label] * leaf).astype(leaf.dtype)
            ),
            self._labels,
            self._template,
        )
        return PendingTaskGrads(
            self._labels, template, self._jacobian._replace(cotangents=cotangents)
        )

    def stacked(self) -> Any:
        """Computes them all: the tree of gradients with shared leaves [T, *shape].

        Example:
          >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
          >>> fun = dbmtl.value_and_task_grads(lambda w: (w.sum(), (w**2).sum()), stream=True)
          >>> _, pending = fun(jnp.array([1.0, 2.0]))
          >>> print(pending.stacked())
          [[1. 1.]
           [2. 4.]]
        """
        rows = iter(jax.tree.leaves(self.rows().tree()))
        return jax.tree.map(
            lambda label, leaf: next(rows) if label == _partition.SHARED else leaf,
            self._labels,
            self._template,
        )

    def __repr__(self) -> str:
        return f"PendingTaskGrads({jax.tree.map(jnp.shape, self._template)})"

    # optax and jax.numpy take it for an array sooner or later.
    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name}: {_REFUSAL}")

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(_REFUSAL)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __neg__ = __abs__ = __getitem__ = _refuse


def template(updates: Any) -> Any:
    """The tree of stacked gradients, pending or not; of the pending ones shapes alone."""
    return updates.template if isinstance(updates, PendingTaskGrads) else updates


class PendingRows(NamedTuple):
    """The rows of a `Stack`, computed when they are asked for."""

    jacobian: Jacobian
    shapes: Any  # leaves `jax.ShapeDtypeStruct` [T, *shape]

    def tree(self) -> Any:
        structs = jax.tree.leaves(self.shapes)
        empty = [jnp.zeros(struct.shape, struct.dtype) for struct in structs]

        def write(task: Any, row: list[jax.Array], stacked: Any) -> tuple[Any, jax.Array]:
            return _write(stacked, row, task), squared_norms([x[None] for x in row], 1)[0]

        return self._unflatten(self._fold(write, empty))

    def squared_cotangents(self) -> jax.Array:
        """‖c_t‖², [T]: not finite where row t cannot be."""
        return squared_norms(jax.tree.leaves(self.jacobian.cotangents), self._num_tasks)

    def squares(self) -> jax.Array:
        def square(task: Any, row: list[jax.Array], squares: jax.Array) -> tuple[Any, jax.Array]:
            value = _square(row)
            return squares.at[task].set(value), value

        return self._fold(square, jnp.zeros((self._num_tasks,), self._dtype))

    def products(self) -> jax.Array:
        if not self._can_push():
            return StackedRows(self.tree(), self._num_tasks).products()
        push = self.jacobian.linearize()
        cotangents = jax.tree.leaves(self.jacobian.cotangents)

        def column(task: Any, row: list[jax.Array], matrix: jax.Array) -> tuple[Any, jax.Array]:
            # (J J_tᵀ)_s = ⟨c_s, tangent⟩.
            tangents = jax.tree.leaves(push(row))
            values = jnp.zeros((self._num_tasks,), matrix.dtype)
            for c, tangent in zip(cotangents, tangents, strict=True):
                # Another task's loss is nothing to c_t, though its tangent be infinite.
                products = jnp.where(c != 0, c * tangent[None], 0)
                values += jnp.sum(products, axis=tuple(range(1, c.ndim)))
            # The row's own norm is known better than through the way there and back.
            square = _square(row)
            return matrix.at[task].set(values.at[task].set(square)), square

        size = self._num_tasks
        matrix = self._fold(column, jnp.zeros((size, size), self._dtype))
        return (matrix + matrix.T) / 2

    def sum(self, weights: jax.Array, present: jax.Array) -> Any:
        return self._unflatten(
            self.jacobian.pull(
                jax.tree.map(lambda c: weighted_sum(weights, present, c), self.jacobian.cotangents)
            )
        )

    def averaged(
        self, averages: Any, weights: jax.Array, present: jax.Array, blend: Blend
    ) -> tuple[Any, jax.Array, jax.Array]:
        leaves, structure = jax.tree.flatten(averages)

        def average(task: Any, row: list[jax.Array], carry: Any) -> tuple[Any, jax.Array]:
            leaves, squares = carry
            new = []
            for gradient, leaf in zip(row, leaves, strict=True):
                old = jax.lax.dynamic_index_in_dim(leaf, task, keepdims=False)
                wide = weights[task] * gradient.astype(accumulation_dtype(gradient, leaf))
                new.append(blend(wide, old).astype(leaf.dtype))
            square = _square(new)
            usable = present[task]
            if not strict():
                usable &= jnp.isfinite(square)
            # A loop of one or no iterations: it writes in place, and a row that is not to be
            # written costs nothing, where a selection would read the old one again.
            leaves = jax.lax.fori_loop(
                0, usable.astype(jnp.int32), lambda _, leaves: _write(leaves, new, task), leaves
            )
            return (leaves, squares.at[task].set(square)), square

        squares = jnp.zeros((self._num_tasks,), accumulation_dtype(*leaves))
        leaves, squares = self._fold(average, (leaves, squares))
        if not strict():
            present &= jnp.isfinite(squares)
        return jax.tree.unflatten(structure, leaves), squares, present

    @property
    def _num_tasks(self) -> int:
        return jax.tree.leaves(self.jacobian.cotangents)[0].shape[0]

    @property
    def _dtype(self) -> jnp.dtype:
        return accumulation_dtype(*jax.tree.leaves(self.shapes))

    def _unflatten(self, leaves: list[jax.Array]) -> Any:
        return jax.tree.unflatten(jax.tree.structure(self.shapes), leaves)

    def _row(self, task: Any) -> list[jax.Array]:
        one = jax.tree.map(
            lambda c: jax.lax.dynamic_index_in_dim(c, task, keepdims=False),
            self.jacobian.cotangents,
        )
        return self.jacobian.pull(one)

    def _fold(self, body: Callable[[Any, Any, Any], tuple[Any, Any]], carry: Any) -> Any:
        """`carry, square = body(t, row t, carry)` for one task after the other."""
        if not self.jacobian.unroll:
            return jax.lax.fori_loop(
                0, self._num_tasks, lambda t, carry: body(t, self._row(t), carry)[0], carry
            )
        wait = jnp.zeros((), jnp.int32)
        for task in range(self._num_tasks):
            carry, square = body(task, self._row(task + wait), carry)
            # Always 0.  The next row cannot be computed before this one is used up; the compiler
            # would otherwise start them all, and keep them all.
            wait = (square < -1).astype(jnp.int32)
        return carry

    def _can_push(self) -> bool:
        """Whether forward mode exists (not behind `jax.custom_vjp`), and is precise enough."""
        structs = jax.tree.leaves(self.shapes)
        if any(accumulation_dtype(struct) != struct.dtype for struct in structs):
            return False
        row = [jax.ShapeDtypeStruct(struct.shape[1:], struct.dtype) for struct in structs]
        return not contains(jax.make_jaxpr(self.jacobian.linearize())(row).jaxpr, "custom_lin")


def _wide(array: jax.Array) -> jax.Array:
    return array.astype(accumulation_dtype(array))


def _square(row: list[jax.Array]) -> jax.Array:
    """‖row‖² over all leaves together, a scalar."""
    total = jnp.zeros((), accumulation_dtype(*row))
    for leaf in map(_wide, row):
        total += jnp.sum(leaf * leaf)
    return total


def _write(stacked: list[jax.Array], row: list[jax.Array], task: Any) -> list[jax.Array]:
    return [
        jax.lax.dynamic_update_index_in_dim(leaf, new, task, 0)
        for leaf, new in zip(stacked, row, strict=True)
    ]
