"""What the steps of one network are made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

MODES = ("unroll", "loop", "vmap", "stream")
"""Those of the engine, and "stream": pending gradients in the mode that it chooses itself."""


class Network(NamedTuple):
    """Losses and their task gradients at one batch."""

    params: Any  # (encoder, heads)
    batch: Any
    losses: Callable[[Any, Any], Any]
    task_grads: Callable[[str], Callable[[Any, Any], Any]]  # of a mode
    num_tasks: int
    modes: tuple[str, ...] = MODES  # those worth timing

    @property
    def labels(self) -> Any:
        """The encoder is shared, head t is task t's."""
        return "shared", list(range(self.num_tasks))


def engine_options(mode: str) -> dict[str, Any]:
    """A mode as the engine's arguments."""
    return {"stream": True} if mode == "stream" else {"mode": mode}
