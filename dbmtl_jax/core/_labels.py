"""Which parameters all tasks share, and which belong to one task alone: the `labels`."""

from typing import Any

import jax
import numpy as np
import optax

from dbmtl_jax.core._types import Labels, PyTree

SHARED = "shared"


def resolve(labels: Labels, tree: PyTree, num_tasks: int) -> PyTree:
    """Spells `labels` out: a tree like `tree` whose leaves are ``"shared"`` or a task index.

    Args:
      labels: None (every leaf is shared), a prefix tree of `tree`, or a callable of `tree` that
        returns one; its leaves are ``"shared"`` or an int in [0, num_tasks).
      tree: the parameters, or gradients of the same tree.
      num_tasks: T.

    Raises:
      ValueError: if `labels` is not a prefix of `tree`, or a label is neither of the two.
    """
    # `optax.tree.map_params` calls init with a node without leaves to find the copies of params.
    if not jax.tree.leaves(tree):
        return tree
    if labels is None:
        return jax.tree.map(lambda _: SHARED, tree)
    if callable(labels):
        labels = labels(tree)
    for path, label in jax.tree_util.tree_leaves_with_path(labels):
        _check_label(f"labels{jax.tree_util.keystr(path)}", label, num_tasks)
    try:
        return jax.tree.map(
            lambda label, subtree: jax.tree.map(lambda _: label, subtree), labels, tree
        )
    except ValueError as error:
        raise ValueError(f"labels: expected a prefix of the tree of params: {error}") from error


def _check_label(where: str, label: Any, num_tasks: int) -> None:
    is_task = isinstance(label, int | np.integer) and not isinstance(label, bool)
    if label != SHARED and not (is_task and 0 <= label < num_tasks):
        raise ValueError(
            f"{where}: expected {SHARED!r} or a task index in [0, {num_tasks}), found {label!r}"
        )


def is_shared(labels: PyTree) -> list[bool]:
    """For every leaf, whether all tasks share it."""
    return [label == SHARED for label in jax.tree.leaves(labels)]


def shared(labels: PyTree, tree: PyTree) -> PyTree:
    """`tree` with `optax.MaskedNode` in the place of leaves that belong to one task."""
    return jax.tree.map(
        lambda label, leaf: leaf if label == SHARED else optax.MaskedNode(), labels, tree
    )


def own_leaves(labels: PyTree, tree: PyTree) -> list[tuple[int, Any]]:
    """The (task, leaf) pairs of the leaves of `tree` that belong to one task, in order."""
    return [
        (label, leaf)
        for label, leaf in zip(jax.tree.leaves(labels), jax.tree.leaves(tree), strict=True)
        if label != SHARED
    ]
