"""Time and memory of a step of DB-MTL relative to equal weighting, for every mode of the engine."""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dbmtl_jax as dbmtl
from benchmarks.perf.network import (
    FORMS,
    MODES,
    README,
    Network,
    engine_options,
    refresh_of,
)
from benchmarks.perf.resnet import resnet
from benchmarks.perf.timing import in_turns
from benchmarks.perf.verdict import Goal, Verdict, judged
from benchmarks.problems import qm9
from benchmarks.problems.qm9.models import models, one_chunk
from benchmarks.problems.qm9.settings import QM9Config

GOALS = {
    ("mlp", 2): Goal(1.75, 2.0),
    ("mlp", 3): Goal(2.35, 2.7),
    ("mlp", 11): Goal(7.0, 8.5),
    ("resnet", 3): Goal(1.8, 2.2),
    ("resnet", 11): Goal(4.9, 6.0),
}
"""Goals for the time of a step relative to equal weighting on CPUs, by network and tasks."""

README_GOALS = {
    ("mlp", 2): Goal(1.85, 2.0),
    ("mlp", 3): Goal(2.5, 2.7),
    ("mlp", 11): Goal(7.8, 8.5),
}
"""The same for the pattern of the README's example."""

MEMORY_GOALS = {("mlp", 11): Goal(11.5, 17.5)}
"""Goals for the memory beyond that of equal weighting, in units of the shared parameters."""

_MLP_WIDTHS = (512, 1600, 1600, 1024)  # 5.0 million shared parameters
_MLP_BATCH = 256
_QM9_BATCH = 32
_QM9_ATOMS = 18
_LEARNING_RATE = 1e-4

EW = "EW"
"""In place of a mode: equal weighting, the gradient of the sum of the losses."""

ROWS = "rows"
"""In place of a mode: only the gradient of every task and its norm, one task after the other."""


class Row(NamedTuple):
    """The result of one program relative to equal weighting, on one network."""

    network: str
    num_tasks: int
    mode: str
    ratio: float  # median of the rounds' ratios
    spread: tuple[float, float]  # smallest and largest ratio
    milliseconds: float  # median time of a step
    compile_seconds: float
    target: float | None  # goal for the ratio
    fail: float | None
    verdict: Verdict
    memory: float  # beyond that of equal weighting, in units of the shared parameters
    memory_target: float | None
    memory_fail: float | None
    memory_verdict: Verdict


def mlp(num_tasks: int, compute_dtype: str = "float32") -> Network:
    """An MLP with tanh, 5 million parameters, linear regression heads and batch size 256.

    Its encoder computes in `compute_dtype`, its heads in float32.
    """
    keys = iter(jax.random.split(jax.random.key(0), 3 + len(_MLP_WIDTHS) + num_tasks))

    def matrix(rows: int, columns: int) -> jax.Array:
        return jax.random.normal(next(keys), (rows, columns)) / rows**0.5

    encoder = [
        {"w": matrix(rows, columns), "b": jnp.zeros(columns)}
        for rows, columns in itertools.pairwise(_MLP_WIDTHS)
    ]
    heads = [matrix(_MLP_WIDTHS[-1], 1) for _ in range(num_tasks)]
    x = jax.random.normal(next(keys), (_MLP_BATCH, _MLP_WIDTHS[0]))
    y = jax.random.normal(next(keys), (_MLP_BATCH, num_tasks))

    def encode(params, batch):
        z = batch[0].astype(compute_dtype)
        for layer in params:
            w, b = (layer[name].astype(compute_dtype) for name in ("w", "b"))
            z = jnp.tanh(z @ w + b[None])
        return z.astype(jnp.float32)

    def head(task):
        return lambda params, z, batch: jnp.mean(((z @ params)[:, 0] - batch[1][:, task]) ** 2)

    def losses(params, batch):
        z = encode(params[0], batch)
        return [head(task)(params[1][task], z, batch) for task in range(num_tasks)]

    def task_grads(mode):
        return dbmtl.encoder_value_and_task_grads(
            encode, [head(task) for task in range(num_tasks)], **engine_options(mode)
        )

    last_bias = f"0/{len(encoder) - 1}/b"  # its matrix is a third of all shared parameters
    return Network(
        (encoder, heads), (x, y), losses, task_grads, num_tasks, lambda path: path == last_bias
    )


def qm9_network(num_tasks: int, compute_dtype: str = "float32") -> Network:
    """The QM9 network of the paper on random molecules of 18 atoms with batch size 32.

    The messages between atoms are computed in `compute_dtype`, all else in float32.
    """
    rng = np.random.default_rng(0)
    batch = (
        jnp.asarray(rng.choice([1, 6, 7, 8, 9], (_QM9_BATCH, _QM9_ATOMS)), jnp.int32),
        jnp.asarray(rng.normal(size=(_QM9_BATCH, _QM9_ATOMS, 3)) * 2, jnp.float32),
        jnp.asarray(rng.normal(size=(_QM9_BATCH, len(qm9.TASKS))), jnp.float32),
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


NETWORKS = {"mlp": mlp, "qm9": qm9_network, "resnet": resnet}


def step_of(
    network: Network,
    mode: str,
    method: optax.GradientTransformationExtraArgs | None = None,
) -> tuple[Any, Any]:
    """A jitted SGD step with donated state, and the initial state.

    Args:
      network: the network to train.
      mode: mode of the engine, or one of `FORMS`, or `README`, `EW` or `ROWS`.
      method: method that combines the task gradients; None: DB-MTL in the form of the mode.
    """
    tx = optax.sgd(_LEARNING_RATE)
    if mode not in (EW, ROWS):
        tx = dbmtl.chain(method or _db_mtl(network, mode), tx)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        params, opt_state = state
        if mode == ROWS:
            _, pending = network.task_grads("stream")(params, batch)
            return params, pending.rows().squared_norms()
        if mode == EW:
            grads = jax.grad(lambda p: sum(network.losses(p, batch)))(params)
            updates, opt_state = tx.update(grads, opt_state, params)
        else:
            losses, grads = _task_grads(network, mode)(params, batch)
            updates, opt_state = tx.update(grads, opt_state, params, losses=losses)
        return optax.apply_updates(params, updates), opt_state

    params = jax.tree.map(jnp.copy, network.params)
    first = jnp.zeros(network.num_tasks) if mode == ROWS else tx.init(params)
    return step, (params, first)


def _task_grads(network: Network, mode: str) -> Callable[[Any, Any], tuple[Any, Any]]:
    if mode != README:
        return network.task_grads(mode)
    return dbmtl.value_and_task_grads(network.losses, labels=network.labels, stream=True)


def _db_mtl(network: Network, mode: str) -> optax.GradientTransformationExtraArgs:
    """DB-MTL, which averages norms where it would not sum the averages."""
    every = refresh_of(mode)
    method = dbmtl.db_mtl(
        network.num_tasks,
        0.9,
        average="norms" if every > 1 or mode == "representation" else "gradients",
        labels=network.labels,
        measured=dbmtl.labels_by_path(network.last_shared) if mode == "measured" else None,
    )
    return dbmtl.refresh_weights(method, every) if every > 1 else method


def best_mode(rows: Sequence[Row], network: str, num_tasks: int) -> str:
    """The fastest measured mode of a network; "stream" if none is measured."""
    found = [row for row in rows if (row.network, row.num_tasks) == (network, num_tasks)]
    of_mode = {row.mode: row.ratio for row in found if row.mode in MODES}
    return min(of_mode, key=lambda mode: of_mode[mode], default="stream")


def needed_bytes(compiled: Any) -> int:
    """The memory that a compiled program needs; donated arguments are counted once."""
    memory = compiled.memory_analysis()
    # On CPUs, `peak_memory_in_bytes` only contains the arguments.
    return (
        memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )


class Program:
    """The compiled step of a mode, with the state that its steps change."""

    def __init__(self, network: Network, mode: str) -> None:
        step, self._state = step_of(network, mode)
        self._batch = network.batch
        begin = time.perf_counter()
        self.compiled = step.lower(self._state, self._batch).compile()
        self.compile_seconds = time.perf_counter() - begin

    def run(self, steps: int) -> Any:
        """Takes steps, and returns the arrays to wait for."""
        for _ in range(steps):
            self._state = self.compiled(self._state, self._batch)
        return self._state


def measure(name: str, network: Network, modes: Sequence[str], rounds: int) -> list[Row]:
    """Times a step of every mode, of equal weighting, and of the gradients alone."""
    programs = {mode: Program(network, mode) for mode in (EW, ROWS, *modes)}
    turns = in_turns(
        {mode: functools.partial(p.run, refresh_of(mode)) for mode, p in programs.items()}, rounds
    )
    times = {mode: [t / refresh_of(mode) for t in taken] for mode, taken in turns.items()}
    shared_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(network.params[0]))
    full = [a / b for a, b in zip(times.get("stream", times[EW]), times[EW], strict=True)]
    needed = {mode: needed_bytes(program.compiled) for mode, program in programs.items()}
    rows = []
    for mode, program in programs.items():
        ratios = [a / b for a, b in zip(times[mode], times[EW], strict=True)]
        ratio = statistics.median(ratios)
        memory = (needed[mode] - needed[EW]) / shared_bytes
        goal, memory_goal = _goals(name, network.num_tasks, mode, statistics.median(full))
        rows.append(
            Row(
                name,
                network.num_tasks,
                mode,
                ratio,
                (min(ratios), max(ratios)),
                1e3 * statistics.median(times[mode]),
                program.compile_seconds,
                *judged(goal, ratio),
                memory,
                *judged(memory_goal, memory),
            )
        )
    return rows


def _goals(name: str, num_tasks: int, mode: str, full: float) -> tuple[Goal | None, Goal | None]:
    """The goals for time and memory of a mode; `full` is the ratio of the exact method's step."""
    if mode in FORMS and num_tasks == 11:
        every = refresh_of(mode)
        target = 1.35 if every == 1 else 1.1 + (full - 1) / every
        return Goal(target, target + 0.15), None
    of_mode = README_GOALS if mode == README else GOALS if mode in MODES else {}
    memory = MEMORY_GOALS if mode in MODES else {}
    return of_mode.get((name, num_tasks)), memory.get((name, num_tasks))
