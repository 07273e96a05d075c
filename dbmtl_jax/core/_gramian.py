"""The inner products of T gradients."""

from typing import NamedTuple

import jax.numpy as jnp

from dbmtl_jax.core._types import Array, Float, Mask, PerTask


class Gramian(NamedTuple):
    r"""The inner products :math:`M_{st} = \langle g_s, g_t \rangle = d_s d_t C_{st}`.

    Kept as norms d and cosines C: float32 holds these for tasks of any scale, where the matrix
    itself would lose the small ones.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> gramian = dbmtl.Gramian.from_matrix(jnp.array([[4.0, 3.0], [3.0, 9.0]]))
      >>> print(gramian.norms, gramian.cosines[0, 1], gramian.matrix[0, 1])
      [2. 3.] 0.5 3.0
    """

    norms: PerTask  # d; 0 for absent tasks
    cosines: Float[Array, "T T"]  # C; rows and columns of 0 for absent tasks and zero gradients
    present: Mask  # a gradient of zero is present, a task without one is not

    @classmethod
    def from_matrix(cls, matrix: Float[Array, "T T"], present: Mask | None = None) -> "Gramian":
        """Splits a matrix [T, T] of inner products; all tasks are present by default.

        Raises:
          ValueError: unless the matrix is square and `present` has its length.
        """
        matrix = jnp.asarray(matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"gramian: expected shape (T, T), found {matrix.shape}")
        size = matrix.shape[0]
        present = jnp.ones((size,), bool) if present is None else jnp.asarray(present)
        if present.shape != (size,) or present.dtype != jnp.bool_:
            raise ValueError(
                f"present: expected a bool array of shape ({size},), "
                f"found {present.dtype} of shape {present.shape}"
            )
        norms = jnp.sqrt(jnp.where(present, jnp.diagonal(matrix), 0))
        return cls(norms, cosines_of(matrix, norms), present)

    @property
    def matrix(self) -> Float[Array, "T T"]:
        """M [T, T]."""
        return self.norms[:, None] * self.cosines * self.norms[None, :]

    @property
    def normalized(self) -> Float[Array, "T T"]:
        """M over the square of the largest norm, with which no dtype overflows."""
        largest = jnp.max(self.norms)
        unit = self.norms / jnp.where(largest > 0, largest, 1)
        return self.cosines * unit[:, None] * unit[None, :]


def cosines_of(
    products: Float[Array, "T T"],
    norms: PerTask,
    signs: PerTask | None = None,
) -> Float[Array, "T T"]:
    """Inner products over the norms of both: 0 where a norm is 0, and 1 on the diagonal.

    Args:
      products: of the gradients.
      norms: of the gradients, 0 for those to leave out.
      signs: of the scales that are put on the gradients, if any may be negative.
    """
    usable = norms > 0
    inverse = jnp.where(usable, (1 if signs is None else signs) / jnp.where(usable, norms, 1), 0)
    products = jnp.where(usable[:, None] & usable[None, :], products, 0)
    # One factor at a time: their product may overflow.
    cosines = products * inverse[:, None] * inverse[None, :]
    return jnp.fill_diagonal(cosines, usable.astype(cosines.dtype), inplace=False)


def as_gramian(gramian: Gramian | Float[Array, "T T"]) -> Gramian:
    """A `Gramian`, made of a matrix [T, T] of inner products if need be.

    Raises:
      ValueError: for a matrix that is not square.
    """
    return gramian if isinstance(gramian, Gramian) else Gramian.from_matrix(gramian)
