"""Task gradients that are not computed yet: `stream=True`.

What a method does not ask for is never computed, and no array [T, *shape] exists unless it asks
for that.
"""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._rows import TaskGrads, scaled_own_leaf
from dbmtl_jax.core._types import PerTask, PyTree
from dbmtl_jax.engine._jacobian import Jacobian
from dbmtl_jax.engine._pending_rows import PendingRows

_REFUSAL = (
    "these task gradients are pending (stream=True): only a transformation of dbmtl_jax can take "
    "them, which must come first in its optax.chain; `.stacked()` makes arrays [T, ...] of them"
)


class PendingTaskGrads(TaskGrads):
    """The gradients of T tasks before anybody computes them.

    Stands for the tree of stacked gradients that an engine function returns without
    `stream=True`, within the same trace (the same call of a jitted step), and is passed to
    `tx.update` in its place.  `stacked()` gives that tree.
    """

    def __init__(self, labels: PyTree, template: PyTree, jacobian: Jacobian) -> None:
        self._labels = labels
        self._template = template
        self._jacobian = jacobian

    @property
    def template(self) -> PyTree:
        """The tree of stacked gradients: a `jax.ShapeDtypeStruct` [T, *shape] for a shared leaf.

        A leaf of one task alone is there already, [*shape].
        """
        return self._template

    def rows(self) -> PendingRows:
        """The gradients with regard to the shared leaves, each computed when it is asked for."""
        shapes = _labels.shared(self._labels, self._template)
        return PendingRows(self._jacobian, shapes, self._scaled)

    def stacked(self) -> PyTree:
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
            lambda label, leaf: next(rows) if label == _labels.SHARED else leaf,
            self._labels,
            self._template,
        )

    def _scaled(self, scales: PerTask, own_scales: PerTask) -> "PendingTaskGrads":
        """Row t and task t's own leaves times a scale each: still pending."""
        template = jax.tree.map(
            lambda label, leaf: (
                leaf if label == _labels.SHARED else scaled_own_leaf(label, leaf, own_scales)
            ),
            self._labels,
            self._template,
        )
        return PendingTaskGrads(self._labels, template, self._jacobian.scaled(scales))

    def __repr__(self) -> str:
        return f"PendingTaskGrads({jax.tree.map(jnp.shape, self._template)})"

    # optax and jax.numpy take it for an array sooner or later.
    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name}: {_REFUSAL}")

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(_REFUSAL)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __neg__ = __abs__ = __getitem__ = _refuse
