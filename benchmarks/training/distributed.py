"""Training with several processes, of which only process 0 reads and writes results.

All processes must run the same programs in the same order. Process 0 therefore makes all decisions
that depend on files or clocks, and sends them to the others.
"""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from benchmarks.errors import UserError
from benchmarks.settings import Comparison

_MESSAGE_BYTES = 2**14


def initialize(config: Comparison) -> None:
    """Connects to the other processes, if there are any; it must be called before other JAX code.

    Raises:
      UserError: if the options are inconsistent, or the connection fails.
    """
    explicit = {
        "--coordinator": config.coordinator,
        "--process-id": config.process_id,
        "--num-processes": config.num_processes,
    }
    missing = [name for name, value in explicit.items() if value is None]
    if not config.distributed:
        if len(missing) < len(explicit):
            raise UserError(f"{next(n for n in explicit if n not in missing)}: needs --distributed")
        return
    if 0 < len(missing) < len(explicit):
        raise UserError(
            f"--distributed: expected all of {', '.join(explicit)} or none of them, "
            f"without {', '.join(missing)}"
        )
    if config.time_steps:
        raise UserError(f"--time-steps: expected 0 with --distributed, found {config.time_steps}")
    # That service would catch SIGTERM, so that the program would not end.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(config.coordinator, config.num_processes, config.process_id)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--distributed: {error}") from error


def is_first() -> bool:
    """Whether this is process 0."""
    return jax.process_index() == 0


def agree(value: Any) -> Any:
    """Returns the value of process 0 in all processes; it must be convertible to JSON."""
    if jax.process_count() == 1:
        return value
    text = json.dumps(value).encode() if is_first() else b""
    if len(text) > _MESSAGE_BYTES:
        raise ValueError(f"value: expected at most {_MESSAGE_BYTES} bytes, found {len(text)}")
    padded = np.frombuffer(text.ljust(_MESSAGE_BYTES), np.uint8)
    return json.loads(share(padded).tobytes())


def share(tree: Any) -> Any:
    """Returns the NumPy arrays of process 0 in all processes; shapes and dtypes must match."""
    if jax.process_count() == 1:
        return tree

    def one(leaf: np.ndarray) -> np.ndarray:
        # As bytes, since JAX would convert 64-bit numbers to 32 bits.
        data = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
        found = np.asarray(multihost_utils.broadcast_one_to_all(data)).astype(np.uint8)
        return found.view(leaf.dtype).reshape(leaf.shape)

    return jax.tree.map(one, tree)


def on_host(tree: Any) -> Any:
    """Converts a tree to NumPy arrays, which may be distributed over the processes."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.asarray(leaf)
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(one, tree)
