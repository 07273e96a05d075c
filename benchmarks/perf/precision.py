"""The effect of bfloat16 on the direction of DB-MTL's update, for the QM9 network of the paper.

`python -m benchmarks.perf.precision` uses the molecules that `compare qm9` reads.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import dbmtl_jax as dbmtl
from benchmarks.problems.problem import Model
from benchmarks.problems.qm9.models import models
from benchmarks.problems.qm9.problem import QM9Problem
from benchmarks.problems.qm9.settings import QM9Config

_KEY = jax.random.key(0)  # not used, as training draws no random numbers
_SEEDS = 24
_BATCH = 128
_CONFIG = dataclasses.replace(
    QM9Config(), train_size=_SEEDS * _BATCH, validation_size=10, test_size=10
)


def first_update(model: Model, params: Any, batch: Any) -> tuple[Any, jax.Array]:
    """The first update of the encoder by DB-MTL, and the losses [T]."""
    tx = dbmtl.db_mtl(model.num_tasks, labels=model.labels)
    (losses, _), grads = model.task_grads(params, {}, batch, _KEY)
    updates, _ = tx.update(grads, tx.init(params), params, losses=losses)
    return updates[0], losses


def _of_encoder(model: Model, params: Any, batch: Any) -> tuple[Any, list[Any]]:
    """The first update of the encoder, and the gradients of all tasks."""
    grads = model.task_grads(params, {}, batch, _KEY)[1][0]
    tasks = [jax.tree.map(lambda x, t=t: x[t], grads) for t in range(model.num_tasks)]
    return first_update(model, params, batch)[0], tasks


def cosine(a: Any, b: Any) -> float:
    """The cosine of the angle between two trees of arrays."""
    both = jax.tree.map(lambda x, y: jnp.stack([x, y]), a, b)
    return float(dbmtl.task_cosine_similarity(both)[0, 1])


def main() -> None:
    """Prints a line for each initialisation, each with its own batch, and a summary."""
    console = Console()
    problem = QM9Problem(_CONFIG, _BATCH)
    batches = problem.batches("train")
    both = [models(_CONFIG, compute_dtype=dtype)[0] for dtype in ("float32", "bfloat16")]
    programs = [jax.jit(lambda p, b, m=model: _of_encoder(m, p, b)) for model in both]
    updates, tasks = [], []
    for seed in range(_SEEDS):
        params, _ = both[0].init(jax.random.key(seed))
        static, arrays = batches[seed]
        batch = problem.load(problem.data, static, arrays)
        (update, grads), (other, others) = (f(params, batch) for f in programs)
        updates.append(cosine(update, other))
        of_tasks = [cosine(*pair) for pair in zip(grads, others, strict=True)]
        tasks += of_tasks
        console.print(f"seed {seed}: update {updates[-1]:.5f}, lowest task {min(of_tasks):.5f}")
    console.print(
        f"cosine with float32: updates {min(updates):.5f} to {max(updates):.5f}, median "
        f"{np.median(updates):.5f}; tasks' gradients {min(tasks):.5f} to {max(tasks):.5f}"
    )


if __name__ == "__main__":
    main()
