"""Parameters that are labelled frozen: nothing differentiates or moves them."""

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks, _labels
from dbmtl_jax.core._types import Labels, PyTree


class Moving:
    """The parameters that are not frozen.

    Args:
      labels: see `dbmtl_jax.core`.
      params: all parameters.

    Raises:
      TypeError: for a frozen leaf without numbers, such as a key, which nothing could add zeros to.
    """

    def __init__(self, labels: Labels, params: PyTree) -> None:
        self._all = params
        self._is_frozen = _labels.frozen(labels, params)
        self.params = self.of(params)
        frozen = jax.tree.map(lambda here, leaf: leaf if here else None, self._is_frozen, params)
        _checks.check_arrays("params", frozen)

    def of(self, tree: PyTree) -> PyTree:
        """A tree like the parameters with `optax.MaskedNode` in the place of frozen ones."""
        return jax.tree.map(
            lambda frozen, leaf: optax.MaskedNode() if frozen else leaf, self._is_frozen, tree
        )

    def whole(self, moving: PyTree) -> PyTree:
        """All parameters, given those that are not frozen."""
        return self._filled(moving, self._all)

    def with_zeros(self, gradients: PyTree) -> PyTree:
        """A gradient for each parameter, [*shape] zeros for a frozen one."""
        return self._filled(gradients, jax.tree.map(jnp.zeros_like, self._all))

    def _filled(self, tree: PyTree, rest: PyTree) -> PyTree:
        return jax.tree.map(
            lambda frozen, moving, leaf: leaf if frozen else moving, self._is_frozen, tree, rest
        )
