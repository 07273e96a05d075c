"""The network for QM9 on random molecules, the timed network of the paper."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.perf.network import Network, engine_options
from benchmarks.problems.qm9 import TASKS
from benchmarks.problems.qm9.models import models, one_chunk
from benchmarks.problems.qm9.settings import QM9Config

_BATCH = 32
_ATOMS = 18


def qm9(num_tasks: int, compute_dtype: str = "float32") -> Network:
    """The QM9 network of the paper on random molecules of 18 atoms with batch size 32.

    The messages between atoms are computed in `compute_dtype`, all else in float32.
    """
    rng = np.random.default_rng(0)
    batch = (
        jnp.asarray(rng.choice([1, 6, 7, 8, 9], (_BATCH, _ATOMS)), jnp.int32),
        jnp.asarray(rng.normal(size=(_BATCH, _ATOMS, 3)) * 2, jnp.float32),
        jnp.asarray(rng.normal(size=(_BATCH, len(TASKS))), jnp.float32),
    )

    def model(mode="auto"):
        return models(QM9Config(), num_tasks, mode, compute_dtype)[0]

    key = jax.random.key(0)  # for the parameters; training draws no random numbers

    def task_grads(mode):
        if mode == "representation":
            of_all = model().representation_task_grads
        else:
            stream = engine_options(mode).get("stream", False)
            of_all = model().pending_task_grads if stream else model(mode).task_grads

        def losses_and_grads(params, batch):
            (losses, _), grads = of_all(params, {}, one_chunk(*batch), key)
            return losses, grads

        return losses_and_grads

    return Network(
        model().init(key)[0],
        batch,
        lambda params, batch: model().losses(params, {}, one_chunk(*batch), key)[0],
        task_grads,
        num_tasks,
        model().last_shared,
    )
