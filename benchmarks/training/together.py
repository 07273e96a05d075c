"""One thing, or several of them side by side on a leading axis.

A run of one seed is the program that it would be without others: nothing has an axis more, and
nothing is vmapped, which would make other programs of its conditions and convolutions.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def stack(trees: Sequence[Any]) -> Any:
    """The trees as one with a leading axis; a single one as it is."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *rows: jnp.stack(rows), *trees)


def unstack(tree: Any, count: int) -> list[Any]:
    """The `count` trees that `stack` was given."""
    if count == 1:
        return [tree]
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(count)]
