"""Which parameters all tasks share, and which belong to one task alone: the `labels`."""

from typing import Any

import jax
import optax

from dbmtl_jax.core._names import STATIC, is_int
from dbmtl_jax.core._types import Labels, PyTree

SHARED = "shared"


def resolve(labels: Labels, tree: PyTree, num_tasks: int) -> PyTree:
    """Spells `labels` out: a tree like `tree` whose leaves are ``"shared"`` or a task index.

    Args:
      labels: None (every leaf is shared), a prefix tree of `tree`, or a callable of `tree` that
        returns one; its leaves are ``"shared"`` or an int in [0, num_tasks), or a name where the
        tasks have names.
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
    labels = jax.tree_util.tree_map_with_path(
        lambda path, label: _index(f"labels{jax.tree_util.keystr(path)}", label, num_tasks), labels
    )
    try:
        return jax.tree.map(
            lambda label, subtree: jax.tree.map(lambda _: label, subtree), labels, tree
        )
    except ValueError as error:
        raise ValueError(f"labels: expected a prefix of the tree of params: {error}") from error


def _index(where: str, label: Any, num_tasks: int) -> str | int:
    """The label with a task's index in the place of its name."""
    names = getattr(num_tasks, "names", None)
    if isinstance(label, str):
        if label == SHARED:
            return label
        if names is not None and label in names:
            return names.index(label)
    if names is None and is_int(label) and 0 <= label < num_tasks:
        return int(label)
    tasks = f"a task index in [0, {num_tasks})" if names is None else f"one of {', '.join(names)}"
    hint = f"; {STATIC}" if isinstance(label, jax.Array) else ""
    raise ValueError(f"{where}: expected {SHARED!r} or {tasks}, found {label!r}{hint}")


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
