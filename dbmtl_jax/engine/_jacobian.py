"""The Jacobian of T losses as functions, of which nothing is computed until it is asked for.

Row t of the Jacobian J is a pullback of a cotangent, J_t = f(c_t), and f is linear.  So a weighted
sum of rows is one pullback of the weighted cotangent, norms need one row at a time, and the
Gramian J Jᵀ is made of columns J J_tᵀ, each a row pushed forward again.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._task_linalg import accumulation_dtype, squared_norm, weighted_sum
from dbmtl_jax.core._types import Array, Mask, PerTask, PyTree
from dbmtl_jax.engine._derivative import Pull
from dbmtl_jax.engine._shard_map import over_devices
from dbmtl_jax.engine._task_map import Chosen, Way, map_tasks


@dataclasses.dataclass(frozen=True)
class Jacobian:
    """T gradients with regard to the shared leaves, as functions."""

    num_tasks: int
    # (task, 1) -> cotangents; row t of the Jacobian is pull(piece(t, 1))
    piece: Callable[[int, Array], Sequence[Array]]
    pull: Pull  # a cotangent to the shared leaves
    push: Callable[[Sequence[Array]], Sequence[Array]]  # tangents of the shared leaves, forward
    chosen: Chosen  # how rows are computed
    # The cotangents of every task; None where they are as large as rows, and are not stored.
    stored: Sequence[Sequence[Array]] | None
    leaves: Sequence[Array]  # the shared leaves themselves
    push_all: Callable[[Sequence[Array]], Sequence[Array]] | None = None  # `push` up to the losses
    # task -> its row, where that costs less than a pullback of its cotangents
    alone: Callable[[int | Array], list[Array]] | None = None
    scales: PerTask | None = None  # row t times scales[t]
    can_push: bool = True  # whether rows may be pushed forward
    sources_tell: bool = True  # whether a cotangent that is finite mostly makes a finite row

    @property
    def rows(self) -> list[list[Array]]:
        """The cotangents of every task."""
        return [self._scaled_piece(t, jnp.ones(())) for t in range(self.num_tasks)]

    @property
    def cotangents(self) -> list[Array]:
        """The cotangents of all tasks, [T, ...] each."""
        return [jnp.stack(column) for column in zip(*self.rows, strict=True)]

    def reader(self) -> Callable[[int | Array, Array], list[Array]]:
        """(task, wait) -> its cotangents.  The task may be traced; `wait` is 0, and waited for."""
        if self.stored is not None:
            stacked = self.cotangents
            return lambda task, wait: [
                jax.lax.dynamic_index_in_dim(c, task + wait, keepdims=False) for c in stacked
            ]
        pieces = [functools.partial(self._scaled_piece, t) for t in range(self.num_tasks)]

        def read(task: int | Array, wait: Array) -> list[Array]:
            one = 1.0 + wait
            return pieces[task](one) if isinstance(task, int) else jax.lax.switch(task, pieces, one)

        return read

    def row_reader(self) -> Callable[..., list[Array]]:
        """(task, wait, unrolled) -> its row.  The task may be traced; `wait` as for `reader`."""
        alone, scales, read = self.alone, self.scales, self.reader()
        if alone is None:
            return lambda task, wait, unrolled: self.pull(read(task, wait), unrolled=unrolled)
        if scales is None:
            return lambda task, wait, unrolled: alone(task + wait)
        return lambda task, wait, unrolled: [scales[task] * g for g in alone(task + wait)]

    def weighted(self, weights: PerTask, present: Mask) -> list[Array]:
        """Σ_t w_t c_t over the present tasks."""
        if self.stored is not None:
            return [weighted_sum(weights, present, c) for c in self.cotangents]
        total: list[Array] | None = None
        for task in range(self.num_tasks):
            part = [
                jnp.where(present[task], weights[task] * c, 0).astype(c.dtype)
                for c in self._scaled_piece(task, jnp.ones(()))
            ]
            total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
        return total or []

    def squared_norms(self) -> PerTask:
        """‖c_t‖²: not finite if row t cannot be."""
        parts = ([over_devices(squared_norm([c])) for c in row] for row in self.rows)
        return jnp.stack([sum(squares, 0.0) for squares in parts])

    def along(self, row: Sequence[Array]) -> PerTask:
        """J r, the inner products of all rows with one."""
        conjugate = [leaf.conj() for leaf in row]
        if self.push_all is not None:
            found = jnp.stack([x.real for x in self.push_all(conjugate)])
            return found if self.scales is None else found * self.scales
        values = jnp.zeros((self.num_tasks,), accumulation_dtype(*row))
        for c, tangent in zip(self.cotangents, self.push(conjugate), strict=True):
            # An entry where c is zero does not count, even if its tangent is infinite.
            products = jnp.where(c != 0, c * tangent[None], 0)
            values += over_devices(jnp.sum(products.real, axis=tuple(range(1, c.ndim))))
        return values

    def restricted(self, which: Sequence[bool]) -> "Jacobian":
        """The rows' entries for some of the leaves; nothing else is computed of them."""

        def kept(leaves: Sequence[Array]) -> list[Array]:
            return [leaf for leaf, here in zip(leaves, which, strict=True) if here]

        alone = self.alone
        return dataclasses.replace(
            self,
            pull=lambda cotangents, *, unrolled=False: kept(
                self.pull(cotangents, unrolled=unrolled)
            ),
            alone=None if alone is None else lambda task: kept(alone(task)),
            leaves=kept(self.leaves),
            can_push=False,
        )

    def in_branch(self) -> "Jacobian":
        """The same rows, computed within a branch of the program."""
        return dataclasses.replace(
            self, pull=lambda cotangents, *, unrolled=False: self.pull(cotangents)
        )

    def computed_anew(self) -> "Jacobian":
        """The same rows, by a small program that keeps no cotangents, for the case of need."""
        return dataclasses.replace(self.in_branch(), chosen=Chosen.everywhere("loop"), stored=None)

    def scaled(self, scales: PerTask) -> "Jacobian":
        """Row t times a scale."""
        return dataclasses.replace(
            self, scales=scales if self.scales is None else self.scales * scales
        )

    def stacked(self) -> list[Array]:
        """Every row, computed as chosen: the shared leaves [T, *shape]."""

        def rows(way: Way) -> list[Array]:
            # There is nothing to map over where no loss reads a shared leaf.
            if way.mode != "unroll" and (cotangents := self.cotangents):
                return map_tasks(self.pull, cotangents, way)
            computed = [self.pull(row, unrolled=True) for row in self.rows]
            return [jnp.stack(column) for column in zip(*computed, strict=True)]

        return self.chosen.run(rows)

    def _scaled_piece(self, task: int, one: Array) -> list[Array]:
        piece = list(self.piece(task, one) if self.stored is None else self.stored[task])
        if self.scales is None:
            return piece
        return [(self.scales[task] * c).astype(c.dtype) for c in piece]


def assemble(labels: PyTree, shared: Sequence[PyTree], own: Sequence[PyTree]) -> PyTree:
    """The tree of params with these shared leaves, and the others out of `own`, one per leaf."""
    flat_labels, structure = jax.tree.flatten(labels)
    rest = iter(shared)
    leaves = [
        next(rest) if label == _labels.SHARED else leaf
        for label, leaf in zip(flat_labels, own, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def row_structs(labels: PyTree, params: PyTree, num_tasks: int) -> list[jax.ShapeDtypeStruct]:
    """The shared leaves of stacked gradients, [T, *shape], as shapes."""
    return [
        jax.ShapeDtypeStruct((num_tasks, *jnp.shape(leaf)), jnp.result_type(leaf))
        for label, leaf in zip(jax.tree.leaves(labels), jax.tree.leaves(params), strict=True)
        if label == _labels.SHARED
    ]
