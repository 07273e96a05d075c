"""The inner products of T gradients."""

from typing import NamedTuple

import jax.numpy as jnp

from dbmtl_jax.core._types import Array, Float, Mask, PerTask


class Gramian(NamedTuple):
    r"""The inner products :math:`M_{st} = \langle g_s, g_t \rangle = d_s d_t C_{st}`.

    It is kept as norms d and cosines C.  float32 can hold these for gradients of any scale, where
    the small entries of the matrix itself would underflow.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> gramian = dbmtl.Gramian.from_matrix(jnp.array([[4.0, 3.0], [3.0, 9.0]]))
      >>> print(gramian.norms, gramian.cosines[0, 1], gramian.matrix[0, 1])
      [2. 3.] 0.5 3.0
    """

    norms: PerTask  # d; 0 for absent tasks
    cosines: Float[Array, "T T"]  # C; rows and columns of 0 for absent tasks and zero gradients
    present: Mask  # which tasks are present; one with a zero gradient may be

    @classmethod
    def from_matrix(cls, matrix: Float[Array, "T T"], present: Mask | None = None) -> "Gramian":
        """Splits a matrix [T, T] of inner products into norms and cosines.

        All tasks are present by default.

        Raises:
          ValueError: unless the matrix is square and `present` is a bool array of its length.
        """
        matrix = jnp.asarray(matrix)
        matrix = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
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
        """The matrix M [T, T]."""
        return self.norms[:, None] * self.cosines * self.norms[None, :]

    @property
    def normalized(self) -> Float[Array, "T T"]:
        """M divided by the square of the largest norm, so that no dtype overflows."""
        largest = jnp.max(self.norms)
        unit = self.norms / jnp.where(largest > 0, largest, 1)
        return self.cosines * unit[:, None] * unit[None, :]


def cosines_of(
    products: Float[Array, "T T"],
    norms: PerTask,
    signs: PerTask | None = None,
) -> Float[Array, "T T"]:
    """Inner products divided by both norms: 0 where a norm is 0, else 1 on the diagonal.

    Args:
      products: the inner products of the gradients.
      norms: the norms of the gradients, 0 for those to leave out.
      signs: the signs of the scales of the gradients, if any may be negative.
    """
    usable = norms > 0
    inverse = jnp.where(usable, (1 if signs is None else signs) / jnp.where(usable, norms, 1), 0)
    products = jnp.where(usable[:, None] & usable[None, :], products, 0)
    # One factor at a time: their product may overflow.
    cosines = products * inverse[:, None] * inverse[None, :]
    return jnp.fill_diagonal(cosines, usable.astype(cosines.dtype), inplace=False)


def as_gramian(gramian: Gramian | Float[Array, "T T"]) -> Gramian:
    """The argument as a `Gramian`; it may be a matrix [T, T] of inner products.

    Raises:
      ValueError: for a matrix that is not square.
    """
    return gramian if isinstance(gramian, Gramian) else Gramian.from_matrix(gramian)
