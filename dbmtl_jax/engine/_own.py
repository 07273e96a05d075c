"""Gradients of the parameters that belong to one task, and of those that all share, from a cut."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._precision import products_as_now
from dbmtl_jax.core._types import Array, PyTree
from dbmtl_jax.engine._derivative import Cut, Derivative
from dbmtl_jax.engine._jacobian import Jacobian
from dbmtl_jax.engine._task_map import Chosen


def jacobian_of(pieces: Cut, labels: PyTree, params: PyTree, chosen: Chosen) -> Jacobian:
    """The Jacobian with regard to the shared leaves."""
    is_shared = _labels.is_shared(labels)
    leaves = list(map(jnp.asarray, jax.tree.leaves(params)))

    def pull(cotangents: Sequence[Array], *, unrolled: bool = False) -> list[Array]:
        pulled = zip(pieces.pull(cotangents, unrolled=unrolled), is_shared, strict=True)
        return [leaf for leaf, here in pulled if here]

    def whole(tangents: Sequence[Array]) -> list[Array]:
        rest = iter(tangents)
        return [
            next(rest) if here else jnp.zeros_like(leaf)
            for here, leaf in zip(is_shared, leaves, strict=True)
        ]

    # Where losses part at parameters their cotangents are rows.
    lazy = pieces.at_parameters
    return Jacobian(
        pieces.num_tasks,
        products_as_now(pieces.piece),
        products_as_now(pull),
        products_as_now(lambda tangents: pieces.push(whole(tangents))),
        chosen,
        None if lazy else [pieces.of_task(task) for task in range(pieces.num_tasks)],
        [leaf for leaf, here in zip(leaves, is_shared, strict=True) if here],
        products_as_now(lambda tangents: pieces.push_all(whole(tangents))) if lazy else None,
    )


def own_grads(derivative: Derivative, pieces: Cut, labels: PyTree) -> list[Array | None]:
    """For every leaf that belongs to one task its gradient of that task's loss; None for others.

    Raises:
      ValueError: where another loss depends on such a leaf, by its path.
    """
    found: list[Array | None] = []
    for i, (path, label) in enumerate(jax.tree_util.tree_leaves_with_path(labels)):
        if label == _labels.SHARED:
            found.append(None)
            continue
        others = sorted(derivative.certain[i] - {label})
        if others:
            raise ValueError(
                f"params{jax.tree_util.keystr(path)}: expected that the loss of task {label} alone "
                f"depends on it, as it is labelled its own; found that of task {others[0]}, too"
            )
        gradient = pieces.own(label)[i]
        if derivative.readers[i] - {label}:
            # An array of losses hides what is whose.  The compiler drops all but this leaf.
            gradient += pieces.pull(pieces.of_task(label), unrolled=True)[i]
        found.append(gradient)
    return found
