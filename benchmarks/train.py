"""The training loop: one for every method."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dbmtl_jax as dbmtl
from benchmarks.config import TrainConfig
from benchmarks.progress import Progress
from benchmarks.run_log import RunLog, environment

Metrics = list[list[float]]
"""One list of metrics per task."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its losses, as functions of a pair of parameters (encoder, heads).

    `independent` models are T single-task networks in one: every parameter has a leading axis
    T, and row t depends on task t alone.
    """

    init: Callable[[jax.Array], Any]  # PRNG key -> params
    losses: Callable[[Any, Any], jax.Array]  # (params, batch) -> [T]
    task_grads: Callable[[Any, Any], tuple[jax.Array, Any]]  # -> losses [T], task gradients
    totals: Callable[[Any, Any], Any]  # (params, batch) -> what metrics are made of, summable
    num_tasks: int
    independent: bool = False

    @property
    def labels(self) -> Any:
        """For `dbmtl_jax`: the encoder is shared, head t is task t's."""
        return "shared", list(range(self.num_tasks))

    @property
    def num_models(self) -> int:
        """How many models are trained: each has a learning rate and a best epoch of its own."""
        return self.num_tasks if self.independent else 1


class Problem(Protocol):
    """A data set with what is to be learnt from it."""

    multi_task: Model
    single_task: Model
    data: Any  # arrays on the device, passed to every step

    @property
    def tasks(self) -> Sequence[str]:
        """The names of the tasks."""
        ...

    @property
    def higher_is_better(self) -> Sequence[Sequence[bool]]:
        """For every metric of every task."""
        ...

    def batches(self, split: str, *, seed: int = 0, epoch: int = 0) -> list[tuple[Any, Any]]:
        """The batches of "train", "validation" or "test", as pairs (static, arrays).

        Seed and epoch determine the order of those of "train".
        """
        ...

    def load(self, data: Any, static: Any, arrays: Any) -> Any:
        """Makes a batch out of the data; runs on the device, inside the step."""
        ...

    def metrics(self, totals: Any) -> Metrics:
        """Every task's metrics from the totals summed over a split."""
        ...


class TrainState(NamedTuple):
    """Everything that a step changes."""

    params: Any
    opt_state: Any


class Result(NamedTuple):
    """The outcome of a run: metrics at the best epoch, which validation chose."""

    validation: Metrics
    test: Metrics


MethodFactory = Callable[[int], optax.GradientTransformationExtraArgs]
"""seed -> a method of `dbmtl_jax.METHODS`; the seed is of its own random numbers."""


def make_update(
    model: Model,
    method: optax.GradientTransformationExtraArgs | None,
    optimizer: optax.GradientTransformation,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The optimizer as (init, step).

    Args:
      model: what is trained.
      method: merges the task gradients, a member of `dbmtl_jax.METHODS`; None: the gradient of
        the sum of the losses, in one backward pass.
      optimizer: what follows, without a learning rate.

    Returns:
      `init(params) -> TrainState` and `step(state, batch, learning_rate [num_models]) ->
      (state, losses [T])`.
    """
    tx = optimizer if method is None else optax.chain(method, optimizer)

    def init(params: Any) -> TrainState:
        return TrainState(params, tx.init(params))

    def step(state: TrainState, batch: Any, learning_rate: jax.Array) -> Any:
        if method is None:

            def total(params):
                losses = model.losses(params, batch)
                return losses.sum(), losses

            (_, losses), grads = jax.value_and_grad(total, has_aux=True)(state.params)
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
        else:
            losses, grads = model.task_grads(state.params, batch)
            updates, opt_state = tx.update(grads, state.opt_state, state.params, losses=losses)

        def descend(param, update):
            return param - per_model(model, learning_rate, update) * update

        return TrainState(jax.tree.map(descend, state.params, updates), opt_state), losses

    return init, step


def per_model(model: Model, values: jax.Array, leaf: jax.Array) -> jax.Array:
    """Values [num_models], one for each model, shaped to multiply or select its parameters."""
    if not model.independent:
        return values[0]
    return values.reshape(values.shape + (1,) * (leaf.ndim - 1))


class Trainer:
    """The compiled functions of one method, for any number of seeds.

    Args:
      problem: the data.
      model: the network.
      method: the method by its seed; None: the sum of the losses in one backward pass.
      config: the protocol.
      optimizer: what follows the method, without a learning rate; None: Adam.
    """

    def __init__(
        self,
        problem: Problem,
        model: Model,
        method: MethodFactory | None,
        config: TrainConfig,
        optimizer: optax.GradientTransformation | None = None,
    ) -> None:
        self.problem, self.model, self.config = problem, model, config
        optimizer = optimizer or optax.scale_by_adam()

        def update(seed: int) -> Any:
            return make_update(model, None if method is None else method(seed), optimizer)

        _, step = update(seed=0)  # a seed makes a difference to the initial state alone
        self._init_params = jax.jit(model.init)
        self._init_state = jax.jit(
            lambda key, seed: update(seed)[0](model.init(key)), static_argnums=1
        )

        @functools.partial(jax.jit, static_argnums=2, donate_argnums=0)
        def train_step(state, data, static, arrays, learning_rate):
            return step(state, problem.load(data, static, arrays), learning_rate)

        @functools.partial(jax.jit, static_argnums=2)
        def totals(params, data, static, arrays):
            return model.totals(params, problem.load(data, static, arrays))

        @functools.partial(jax.jit, static_argnums=2)
        def probe(params, data, static, arrays):
            """Norms [T] and cosines [T, T] of the raw task gradients on one batch."""
            _, grads = model.task_grads(params, problem.load(data, static, arrays))
            return dbmtl.task_norms(grads[0]), dbmtl.task_cosine_similarity(grads[0])

        @functools.partial(jax.jit, donate_argnums=0)
        def keep_best(best, params, improved):
            """Every model's best parameters so far."""
            return jax.tree.map(
                lambda old, new: jnp.where(per_model(model, improved, new), new, old), best, params
            )

        # Patience 6 here is torch's 5: optax counts the first epoch without improvement as one.
        plateau = optax.contrib.reduce_on_plateau(
            factor=config.plateau_factor,
            patience=config.plateau_patience + 1,
            rtol=0.0,
            atol=1e-6,
            min_scale=config.min_learning_rate / config.learning_rate,
        )
        self._init_plateau = jax.jit(
            jax.vmap(lambda _: plateau.init(jnp.zeros(())), axis_size=model.num_models)
        )

        @jax.jit
        @jax.vmap
        def update_plateau(state, value):
            return plateau.update((), state, value=value)[1]

        self._update_plateau = update_plateau
        self._train_step, self._totals = train_step, totals
        self._probe, self._keep_best = probe, keep_best

    def repeated_step(self, seed: int = 0) -> Callable[[], Any]:
        """A function that takes a training step on one fixed batch, to be timed."""
        static, arrays = self.problem.batches("train", seed=seed)[0]
        rate = jnp.full(self.model.num_models, self.config.learning_rate)
        states = [self._init_state(jax.random.key(seed), seed)]

        def step() -> Any:
            state, losses = self._train_step(states.pop(), self.problem.data, static, arrays, rate)
            states.append(state)
            return losses

        return step

    def evaluate(self, params: Any, split: str) -> Metrics:
        """All metrics of a split."""
        parts = [
            self._totals(params, self.problem.data, static, arrays)
            for static, arrays in self.problem.batches(split)
        ]
        return self.problem.metrics(
            jax.tree.map(lambda *rows: np.sum(rows, axis=0), *jax.device_get(parts))
        )

    def scores(self, values: Metrics, reference: Metrics) -> np.ndarray:
        """What validation maximises, [num_models]: Δp, or each task's own where independent."""
        tasks = zip(values, reference, self.problem.higher_is_better, strict=True)
        deltas = np.array([dbmtl.delta_p([v], [r], [h]) for v, r, h in tasks], np.float32)
        return deltas if self.model.independent else deltas.mean(keepdims=True)

    def run(
        self, seed: int, baseline: Result | None, log: RunLog, progress: Progress
    ) -> Result | None:
        """Trains one seed and reports the test metrics of the epoch that validation chose.

        Args:
          seed: of initialisation and of the order of batches.
          baseline: the single-task results that Δp is relative to; None for these themselves.
          log: receives every figure.
          progress: shows how far it is.

        Returns:
          The result; None if the losses became non-finite, which the log tells.
        """
        config, problem, data = self.config, self.problem, self.problem.data
        state = self._init_state(jax.random.key(seed), seed)
        best = self._init_params(jax.random.key(seed))  # not the state's: those are donated
        plateau = self._init_plateau(None)
        best_scores = np.full(self.model.num_models, -np.inf, np.float32)
        best_epochs = np.zeros(self.model.num_models, int)
        best_values: Metrics = [[] for _ in problem.tasks]
        reference = baseline.validation if baseline else None

        size = sum(leaf.size for leaf in jax.tree.leaves(best))
        log.write("start", seed=seed, num_parameters=size, environment=environment())
        # Always the same batch: its gradients are comparable over epochs, and one program does.
        probe_batch = problem.batches("train", seed=seed)[0]
        step, seconds, speeds = 0, 0.0, []
        for epoch in range(config.epochs):
            batches = problem.batches("train", seed=seed, epoch=epoch)
            learning_rate = config.learning_rate * plateau.scale
            progress.begin_epoch(epoch, config.epochs, len(batches))
            begin = time.perf_counter()
            losses = []
            for static, arrays in batches:
                state, loss = self._train_step(state, data, static, arrays, learning_rate)
                losses.append(loss)
                progress.step(losses)
            table = np.stack(jax.device_get(losses))
            elapsed = time.perf_counter() - begin
            seconds += elapsed
            if epoch > 0 or config.epochs == 1:  # the first epoch compiles
                speeds.append(len(batches) / elapsed)
            for k in range(0, len(table), config.log_every):
                log.write("step", step=step + k, epoch=epoch, losses=table[k])
            if not np.isfinite(table).all():
                bad = int(np.argmin(np.isfinite(table).all(axis=1)))
                log.write("failed", step=step + bad, epoch=epoch, losses=table[bad])
                progress.note(f"the losses are not finite at step {step + bad}: run given up")
                return None
            step += len(batches)

            values = self.evaluate(state.params, "validation")
            reference = reference or values
            scores = self.scores(values, reference)
            norms, cosines = self._probe(state.params, data, *probe_batch)
            log.write(
                "epoch",
                epoch=epoch,
                step=step,
                learning_rate=learning_rate,
                losses=table.mean(axis=0),
                validation=values,
                score=scores,
                gradient_norms=norms,
                cosine_similarity=None if self.model.independent else cosines,
                seconds=elapsed,
            )
            improved = scores > best_scores
            best = self._keep_best(best, state.params, improved)
            best_scores = np.where(improved, scores, best_scores)
            best_epochs = np.where(improved, epoch, best_epochs)
            best_values = [
                new if better else old
                for new, old, better in zip(
                    values,
                    best_values,
                    np.broadcast_to(improved, len(values)),
                    strict=True,
                )
            ]
            plateau = self._update_plateau(plateau, jnp.asarray(-scores))

        result = Result(best_values, self.evaluate(best, "test"))
        log.write(
            "result",
            best_epoch=best_epochs,
            validation=result.validation,
            test=result.test,
            steps=step,
            seconds=seconds,
            steps_per_second=float(np.median(speeds)),
        )
        return result
