"""Random numbers for methods that draw new ones in every step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax.core._types import Array, Seed


class RandomState(NamedTuple):
    """The random key from which the next step draws, as a plain array like all other state."""

    key: Array  # uint32 [2]

    @classmethod
    def from_seed(cls, seed: Seed) -> "RandomState":
        """The state before the first step."""
        return cls(key_of(seed))

    def draw(self) -> tuple["RandomState", Array]:
        """The state for the next step, and the key for this step's random numbers."""
        key, draw = jax.random.split(self.key)
        return self._replace(key=key), draw


def key_of(seed: Any) -> Array:
    """The key that a seed stands for: made from an int, or the key itself.

    Raises:
      TypeError: for anything that is neither an int nor a single key.
    """
    if isinstance(seed, jax.Array):
        if jnp.issubdtype(seed.dtype, jax.dtypes.prng_key) and seed.shape == ():
            # Plain numbers, which every checkpoint can hold; other generators have longer keys.
            data = jax.random.key_data(seed)
            seed = data if data.shape == (2,) else jax.random.bits(seed, (2,), jnp.uint32)
        if seed.dtype == jnp.uint32 and seed.shape == (2,):
            # A copy: the state may be donated, and the user's key must survive that.
            return jnp.copy(seed)
        if not (jnp.issubdtype(seed.dtype, jnp.integer) and seed.shape == ()):
            raise TypeError(
                f"seed: expected an int or a key, found {seed.dtype} of shape {seed.shape}"
            )
    elif isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed: expected an int or a key, found {seed!r}")
    return jax.random.PRNGKey(seed)
