"""Gradients with regard to a representation: `wrt="representation"`.

With z = encoder(θ), task t's gradient is ∂ℓ_t/∂z, and what a method makes of these gradients is
pulled back through the encoder once: (∂z/∂θ)ᵀ Σ_t w_t ∂ℓ_t/∂z.
"""

from typing import NamedTuple, NoReturn

import jax.numpy as jnp

from dbmtl_jax.core._rows import Blend, StackedRows, TaskGrads
from dbmtl_jax.core._types import Array, Float, Mask, PerTask, PyTree
from dbmtl_jax.engine._pending_rows import PendingRows
from dbmtl_jax.engine._shard_map import over_devices


class RepresentationRows(NamedTuple):
    """The rows ∂ℓ_t/∂z, whose sum is that of the parameters' gradients."""

    cotangents: StackedRows  # leaves [T, *representation]
    whole: PendingRows  # the gradients with regard to the parameters

    @property
    def shapes(self) -> PyTree:
        return self.cotangents.shapes

    @property
    def of_parameters(self) -> bool:
        return False

    @property
    def are_computed(self) -> bool:
        return True

    @property
    def sources_tell(self) -> bool:
        return False

    def computed(self) -> "RepresentationRows":
        return self

    def tree(self) -> PyTree:
        return self.cotangents.tree()

    def squared_sources(self) -> PerTask:
        return jnp.zeros((self.cotangents.num_tasks,))

    def squared_norms(self) -> PerTask:
        return over_devices(self.cotangents.squared_norms())

    def gramian(self) -> Float[Array, "T T"]:
        return over_devices(self.cotangents.gramian())

    def sum(self, weights: PerTask, present: Mask) -> PyTree:
        return self.whole.sum(weights, present)

    def to_parameters(self, merged: PyTree) -> PyTree:
        return self.whole.pulled(merged)

    def measured(self, which: PyTree) -> NoReturn:
        raise TypeError(f"measured: {_NO_PARAMETERS}")

    def in_branch(self) -> "RepresentationRows":
        return self._replace(whole=self.whole.in_branch())

    def computed_anew(self) -> PendingRows:
        return self.whole.computed_anew()

    def averaged(self, averages: PyTree, scales: PerTask, present: Mask, blend: Blend) -> NoReturn:
        raise TypeError(f"updates: {_NO_PARAMETERS}")

    def task_grads(
        self, labels: PyTree, template: PyTree, scales: PerTask, own_scales: PerTask
    ) -> TaskGrads:
        return self.whole.scaled(scales, own_scales)


_NO_PARAMETERS = (
    "expected gradients of the parameters, which can be measured or averaged, found those of a "
    'representation (wrt="representation")'
)
