"""Which parameters all tasks share, belong to one task alone, or do not move: the `labels`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from dbmtl_jax.core._names import STATIC, is_int
from dbmtl_jax.core._types import Labels, Measured, PyTree

SHARED = "shared"
FROZEN = "frozen"


def resolve(labels: Labels, tree: PyTree, num_tasks: int) -> PyTree:
    """Spells `labels` out: a tree like `tree`, with a label for every leaf.

    Args:
      labels: None (every leaf is shared), a prefix tree of `tree`, or a callable of `tree` that
        returns one; its leaves are ``"shared"``, ``"frozen"`` or an int in [0, num_tasks), or a
        name where the tasks have names.
      tree: the parameters, or gradients of the same tree.
      num_tasks: T, the number of tasks.

    Raises:
      ValueError: if `labels` is not a prefix of `tree`, or a label is none of these.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, label: _index(f"labels{jax.tree_util.keystr(path)}", label, num_tasks),
        _spelt_out(labels, tree),
    )


def measured(which: Measured, labels: PyTree, tree: PyTree) -> PyTree | None:
    """Spells `measured` out: a tree of bools like `tree`, False for what is not shared.

    Args:
      which: None (all shared leaves), a prefix tree of `tree` with bools as leaves, or a callable
        of `tree` that returns one.
      labels: the tree of labels, one per leaf.
      tree: the parameters, or gradients of the same tree.

    Returns:
      The tree, or None.

    Raises:
      ValueError: if `which` is not a prefix of `tree`, has a leaf that is no bool, or measures
        no shared leaf.
    """
    if which is None:
        return None

    def is_measured(path: Any, here: Any, label: Any) -> bool:
        if not isinstance(here, bool | np.bool_):
            where = f"measured{jax.tree_util.keystr(path)}"
            raise ValueError(f"{where}: expected True or False, found {here!r}")
        return bool(here) and label == SHARED

    found = jax.tree_util.tree_map_with_path(
        is_measured, _spelt_out(which, tree, "measured"), labels
    )
    if jax.tree.leaves(tree) and not any(jax.tree.leaves(found)):
        raise ValueError("measured: expected at least one shared parameter, found none")
    return found


def frozen(labels: Labels, tree: PyTree) -> PyTree:
    """Which leaves are labelled frozen: a tree like `tree` of bools."""
    return jax.tree.map(
        lambda label: isinstance(label, str) and label == FROZEN, _spelt_out(labels, tree)
    )


def labels_by_path(rule: Callable[[str], Any]) -> Callable[[PyTree], PyTree]:
    """Labels for parameters by their path in the tree, for any kind of tree.

    Args:
      rule: maps a path, such as ``"heads/0/kernel"``, to a label: ``"shared"``, ``"frozen"``, a
        task's index or its name.

    Returns:
      A function of the parameters, to be passed as `labels`.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> labels = dbmtl.labels_by_path(lambda path: 1 if path.startswith("head") else "shared")
      >>> labels({"encoder": {"w": jnp.ones(2)}, "head": jnp.ones(3)})
      {'encoder': {'w': 'shared'}, 'head': 1}
    """

    def label_of(path: tuple[Any, ...], _: Any) -> Any:
        text = "/".join(map(str, map(_key, path)))
        label = rule(text)
        if label is None:  # which JAX would take for a node without leaves
            raise ValueError(f"labels: expected a label for the path {text!r}, found None")
        return label

    return lambda params: jax.tree_util.tree_map_with_path(label_of, params)


def _spelt_out(labels: Labels | Measured, tree: PyTree, name: str = "labels") -> PyTree:
    """A label for every leaf, as given."""
    # `optax.tree.map_params` calls init with a node without leaves to find the copies of params.
    if not jax.tree.leaves(tree):
        return tree
    if labels is None:
        return jax.tree.map(lambda _: SHARED, tree)
    if _is_function(labels):
        labels = labels(tree)
    try:
        return jax.tree.map(
            lambda label, subtree: jax.tree.map(lambda _: label, subtree), labels, tree
        )
    except ValueError as error:
        if isinstance(labels, Mapping):
            return _by_keys(labels, tree, name)
        raise ValueError(f"{name}: expected a prefix of the tree of params: {error}") from error


def _is_function(labels: Labels) -> bool:
    """Whether labels are to be called: a tree of labels may be a module, which is callable, too."""
    leaves = jax.tree.leaves(labels)
    return bool(leaves) and all(map(callable, leaves))


def _by_keys(labels: Mapping[Any, Any], tree: PyTree, name: str) -> PyTree:
    """Nested mappings of labels for a tree of other nodes (`flax.nnx.State`) with the same keys.

    Raises:
      ValueError: for a parameter without a label, and for a label without a parameter.
    """
    used: set[tuple[Any, ...]] = set()

    def find(path: tuple[Any, ...], _: Any) -> Any:
        found: Any = labels
        keys: tuple[Any, ...] = ()
        for key in map(_key, path):
            if not isinstance(found, Mapping | list | tuple):
                break
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                known = ", ".join(map(repr, found)) if isinstance(found, Mapping) else len(found)
                raise ValueError(
                    f"{name}: expected an entry for params{jax.tree_util.keystr(path)}, found no "
                    f"{key!r} in {known}"
                ) from None
            keys = (*keys, key)
        used.add(keys)
        if found is None:
            raise ValueError(
                f"{name}: expected an entry for params{jax.tree_util.keystr(path)}, found None"
            )
        return found

    labelled = jax.tree_util.tree_map_with_path(find, tree)
    for path, _ in jax.tree_util.tree_leaves_with_path(labels):
        if tuple(map(_key, path)) not in used:
            where = jax.tree_util.keystr(path)
            raise ValueError(f"{name}{where}: expected the path of a parameter, found none there")
    return labelled


def _key(entry: Any) -> Any:
    """The key of an entry of a path."""
    for name in ("key", "idx", "name"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return entry


def _index(where: str, label: Any, num_tasks: int) -> str | int:
    """The label with a task's index in the place of its name."""
    names = getattr(num_tasks, "names", None)
    if isinstance(label, str):
        if label in (SHARED, FROZEN):
            return label
        if names is not None and label in names:
            return names.index(label)
    if names is None and is_int(label) and 0 <= label < num_tasks:
        return int(label)
    tasks = f"a task index in [0, {num_tasks})" if names is None else f"one of {', '.join(names)}"
    hint = f"; {STATIC}" if isinstance(label, jax.Array) else ""
    raise ValueError(f"{where}: expected {SHARED!r}, {FROZEN!r} or {tasks}, found {label!r}{hint}")


def is_shared(labels: PyTree) -> list[bool]:
    """For every leaf, whether all tasks share it."""
    return [label == SHARED for label in jax.tree.leaves(labels)]


def shared(labels: PyTree, tree: PyTree) -> PyTree:
    """`tree` with `optax.MaskedNode` in the place of leaves that are not shared."""
    return jax.tree.map(
        lambda label, leaf: leaf if label == SHARED else optax.MaskedNode(), labels, tree
    )


def own_leaves(labels: PyTree, tree: PyTree) -> list[tuple[int, Any]]:
    """The (task, leaf) pairs of the leaves of `tree` that belong to one task, in order."""
    return [
        (label, leaf)
        for label, leaf in zip(jax.tree.leaves(labels), jax.tree.leaves(tree), strict=True)
        if label not in (SHARED, FROZEN)
    ]
