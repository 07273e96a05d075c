"""Pending task gradients, which are not computed yet: `stream=True`.

What a method does not ask for is never computed, and no array [T, *shape] exists unless the method
asks for one.
"""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._rows import PendingLeaf, Rows, StackedRows, TaskGrads, scaled_own_leaf
from dbmtl_jax.core._types import PerTask, PyTree
from dbmtl_jax.engine._half_precision import without_overflow
from dbmtl_jax.engine._jacobian import Jacobian
from dbmtl_jax.engine._pending_rows import PendingRows
from dbmtl_jax.engine._representation import RepresentationRows

_REFUSAL = (
    "these task gradients are pending (stream=True): only a transformation of dbmtl_jax can take "
    "them, which must come first in its optax.chain; `.stacked()` makes arrays [T, ...] of them"
)


class PendingTaskGrads(TaskGrads):
    """The gradients of T tasks, not computed yet: what the engine returns with `stream=True`.

    An object stands for the tree of stacked gradients and is passed to `tx.update` in the place of
    that tree.  It is valid only within the trace (the call of the jitted step) in which it was
    made.  `stacked()` computes the tree.
    """

    def __init__(
        self,
        labels: PyTree,
        template: PyTree,
        jacobian: Jacobian,
        *,
        of_representation: bool = False,
        readings: PerTask | None = None,
    ) -> None:
        self._labels = labels
        self._template = template
        self._jacobian = without_overflow(jacobian)
        self._of_representation = of_representation
        self._readings = readings

    @property
    def template(self) -> PyTree:
        """The tree of stacked gradients: a `jax.ShapeDtypeStruct` [T, *shape] for a shared leaf.

        The gradient [*shape] of a leaf that belongs to one task is already computed.
        """
        return self._template

    def rows(self) -> Rows:
        """The gradients with regard to the shared leaves, each of which is computed on demand.

        With `wrt="representation"` those with regard to the representation.
        """
        whole = self._rows_of_parameters()
        if not self._of_representation:
            return whole
        cotangents = StackedRows(self._jacobian.cotangents, self._jacobian.num_tasks)
        return RepresentationRows(cotangents, whole)

    @property
    def readings(self) -> PerTask | None:
        return self._readings

    def read_as(self, factors: PerTask) -> "PendingTaskGrads":
        return self._with(readings=factors)

    def stacked(self) -> PyTree:
        """Computes all gradients and returns their tree, with shared leaves [T, *shape].

        Example:
          >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
          >>> fun = dbmtl.value_and_task_grads(lambda w: (w.sum(), (w**2).sum()), stream=True)
          >>> _, pending = fun(jnp.array([1.0, 2.0]))
          >>> print(pending.stacked())
          [[1. 1.]
           [2. 4.]]
        """
        rows = iter(jax.tree.leaves(self._rows_of_parameters().tree()))
        return jax.tree.map(
            lambda label, leaf: next(rows) if label == _labels.SHARED else leaf,
            self._labels,
            self._template,
        )

    def in_tree(self, structure: jax.tree_util.PyTreeDef) -> "PendingTaskGrads":
        """The same gradients in another tree with as many leaves."""
        labels, template = (
            jax.tree.unflatten(structure, jax.tree.leaves(tree))
            for tree in (self._labels, self._template)
        )
        return self._with(labels=labels, template=template)

    def leaves(self) -> list[PendingLeaf]:
        """What stands for each leaf in a tree that wrappers may take apart."""
        return [PendingLeaf(self, i) for i in range(len(jax.tree.leaves(self._template)))]

    def _scaled(self, scales: PerTask, own_scales: PerTask) -> "PendingTaskGrads":
        """Pending gradients: row t times `scales[t]`, task t's own leaves times `own_scales[t]`."""
        template = jax.tree.map(
            lambda label, leaf: (
                leaf if label == _labels.SHARED else scaled_own_leaf(label, leaf, own_scales)
            ),
            self._labels,
            self._template,
        )
        return self._with(template=template, jacobian=self._jacobian.scaled(scales), readings=None)

    def _rows_of_parameters(self) -> PendingRows:
        shapes = _labels.shared(self._labels, self._template)
        return PendingRows(self._jacobian, shapes, self._scaled)

    def _with(self, **changes: Any) -> "PendingTaskGrads":
        fields = {
            "labels": self._labels,
            "template": self._template,
            "jacobian": self._jacobian,
            "of_representation": self._of_representation,
            "readings": self._readings,
        }
        return PendingTaskGrads(**(fields | changes))

    def __repr__(self) -> str:
        return f"PendingTaskGrads({jax.tree.map(jnp.shape, self._template)})"

    # optax and jax.numpy would otherwise treat it as an array and fail with an obscure error.
    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name}: {_REFUSAL}")

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(_REFUSAL)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __neg__ = __abs__ = __getitem__ = _refuse


def _refused(*_: Any) -> NoReturn:
    raise TypeError(_REFUSAL)


# Whatever maps over the tree of gradients is refused at once, by name.
jax.tree_util.register_pytree_node(PendingTaskGrads, _refused, _refused)
