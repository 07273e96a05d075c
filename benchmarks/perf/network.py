"""The parts of a network from which timed training steps are made."""

from collections.abc import Callable
from typing import Any, NamedTuple

MODES = ("unroll", "loop", "vmap", "stream")
"""The modes of the engine, and "stream": pending gradients, computed in the engine's own choice."""


class Network(NamedTuple):
    """A network with its losses and task gradients, and one batch."""

    params: Any  # (encoder, heads)
    batch: Any
    losses: Callable[[Any, Any], Any]
    task_grads: Callable[[str], Callable[[Any, Any], Any]]  # mode -> task gradients
    num_tasks: int
    modes: tuple[str, ...] = MODES  # modes worth timing

    @property
    def labels(self) -> Any:
        """Labels for `dbmtl_jax`: the encoder is shared, head t belongs to task t."""
        return "shared", list(range(self.num_tasks))


def engine_options(mode: str) -> dict[str, Any]:
    """The arguments of the engine for a mode."""
    return {"stream": True} if mode == "stream" else {"mode": mode}
