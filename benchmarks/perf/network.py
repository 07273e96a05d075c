"""The parts of a network from which timed training steps are made."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

import dbmtl_jax as dbmtl

MODES = ("unroll", "loop", "vmap", "stream")
"""The modes of the engine, and "stream": pending gradients, computed in the engine's own choice."""

FORMS = ("representation", "measured", "refresh4", "refresh16")
"""The cheap forms of DB-MTL: it reads the gradients of the representation, those of the last shared
layer, or all gradients in every 4th or 16th step."""

README = "readme"
"""In place of a mode: the example of the README, one function that returns all losses and gradients
that stream."""


class Network(NamedTuple):
    """A network with its losses and task gradients, and one batch."""

    params: Any  # (encoder, heads)
    batch: Any
    losses: Callable[[Any, Any], Any]
    task_grads: Callable[[str], Callable[[Any, Any], Any]]  # mode -> task gradients
    num_tasks: int
    last_shared: Callable[[str], bool]  # path of a parameter -> whether "measured" measures it

    @property
    def labels(self) -> Any:
        """Labels for `dbmtl_jax`: the encoder is shared, head t belongs to task t."""
        return "shared", list(range(self.num_tasks))


def encoder_with_heads(
    params: Any,
    batch: Any,
    encode: Callable[[Any, Any], Any],
    heads: Sequence[Callable[[Any, Any, Any], Any]],
    last_shared: Callable[[str], bool],
) -> Network:
    """A network of an encoder and a head for each task.

    Args:
      params: (encoder, heads).
      batch: what is trained on.
      encode: (params of the encoder, batch) -> representation.
      heads: (params of the head, representation, batch) -> loss, for each task.
      last_shared: see `Network`.
    """

    def losses(params: Any, batch: Any) -> list[Any]:
        z = encode(params[0], batch)
        return [head(own, z, batch) for head, own in zip(heads, params[1], strict=True)]

    def task_grads(mode: str) -> Any:
        return dbmtl.encoder_value_and_task_grads(encode, heads, **engine_options(mode))

    return Network(params, batch, losses, task_grads, len(heads), last_shared)


def regression(num_tasks: int) -> list[Callable[[Any, Any, Any], Any]]:
    """Linear heads, the squared errors of which are the losses; a batch is (inputs, targets)."""

    def head(task: int) -> Callable[[Any, Any, Any], Any]:
        return lambda params, z, batch: jnp.mean(((z @ params)[:, 0] - batch[1][:, task]) ** 2)

    return [head(task) for task in range(num_tasks)]


def engine_options(mode: str) -> dict[str, Any]:
    """The arguments of the engine for a mode or a cheap form."""
    if mode == "representation":
        return {"wrt": "representation"}
    return {"stream": True} if mode == "stream" or mode in FORMS else {"mode": mode}


def refresh_of(mode: str) -> int:
    """The number of steps for which weights are kept."""
    return int(mode.removeprefix("refresh")) if mode.startswith("refresh") else 1
