"""The strict mode."""

import jax


def strict() -> bool:
    """Whether an unusable task is to raise.

    Under `jax_debug_nans` nobody leaves it out: its NaN reaches the update, where JAX finds it.
    """
    return bool(jax.config.jax_debug_nans)  # type: ignore[attr-defined]
