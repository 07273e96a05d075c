"""The strict mode."""

import jax


def strict() -> bool:
    """Whether an unusable task is to raise an error.

    Under `jax_debug_nans` such a task is not left out: its NaN reaches the update, and JAX raises.
    """
    return bool(jax.config.jax_debug_nans)  # type: ignore[attr-defined]
