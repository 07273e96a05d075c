"""The random numbers of methods that draw anew in every step."""

from typing import NamedTuple, Self

import jax


class RandomState(NamedTuple):
    """The key of the next step's draw, an array like all other state."""

    key: jax.Array  # uint32 [2]

    @classmethod
    def from_seed(cls, seed: int) -> Self:
        """The state before the first step."""
        return cls(jax.random.PRNGKey(seed))

    def draw(self) -> tuple[Self, jax.Array]:
        """The state of the next step, and a key for this one's numbers."""
        key, draw = jax.random.split(self.key)
        return self._replace(key=key), draw
