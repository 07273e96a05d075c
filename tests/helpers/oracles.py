"""What the public reference implementations computed on fixed inputs (`tests/oracles`).

Each file holds ten consecutive steps: `G` [10, T, P] gradients of the raw losses, `L` [10, T]
the losses, and for every case `<library>/<case>/grad` [10, P] the reference's update.
"""

import ast
import functools
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

DIRECTORY = pathlib.Path(__file__).parent.parent / "oracles"
FILES = ("mixed_T3", "conflict_T2")


class Oracle(NamedTuple):
    gradients: np.ndarray  # [steps, T, P]
    losses: np.ndarray  # [steps, T]
    shapes: list[tuple[int, ...]]
    arrays: dict[str, np.ndarray]

    @property
    def num_tasks(self) -> int:
        return self.losses.shape[1]

    def split(self, flat: np.ndarray, dtype: Any) -> list[jnp.ndarray]:
        """Cuts the last axis [..., P] into the leaves [..., *shape]."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        pieces = np.split(flat, np.cumsum(sizes)[:-1], axis=-1)
        return [
            jnp.asarray(piece.reshape(*flat.shape[:-1], *shape), dtype)
            for piece, shape in zip(pieces, self.shapes, strict=True)
        ]

    def params(self, dtype: Any) -> list[jnp.ndarray]:
        return [jnp.zeros(shape, dtype) for shape in self.shapes]


@functools.cache
def load(name: str) -> Oracle:
    with np.load(DIRECTORY / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    shapes = [tuple(shape) for shape in ast.literal_eval(str(arrays["leaf_shapes"]))]
    return Oracle(arrays["G"], arrays["L"], shapes, arrays)
