"""Stacks the trees of several seeds along a leading axis.

A single seed gets no additional axis and no vmap, which would change the compiled program (its
conditions and convolutions).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def stack(trees: Sequence[Any]) -> Any:
    """Stacks trees along a new leading axis; a single tree is returned unchanged."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *rows: jnp.stack(rows), *trees)


def unstack(tree: Any, count: int) -> list[Any]:
    """The inverse of `stack` for `count` trees."""
    if count == 1:
        return [tree]
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(count)]
