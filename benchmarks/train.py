"""The training loop: one for every method."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dbmtl_jax as dbmtl
from benchmarks.config import TrainConfig
from benchmarks.data.vision.loader import Prefetch
from benchmarks.errors import UserError
from benchmarks.learning_rate import LearningRate
from benchmarks.problems.problem import Metrics, Model, Problem, Variables
from benchmarks.progress import Progress
from benchmarks.run_log import RunLog, environment
from benchmarks.scores import delta_p_per_task
from benchmarks.update import adam, make_update, per_model


class Result(NamedTuple):
    """The outcome of a run: metrics at the best epoch, which validation chose."""

    validation: Metrics  # NaN where nothing is held out
    test: Metrics


MethodFactory = Callable[[int], optax.GradientTransformationExtraArgs]
"""seed -> a method of `dbmtl_jax.METHODS`; the seed is of its own random numbers."""


class Trainer:
    """The compiled functions of one method, for any number of seeds.

    Args:
      problem: the data.
      model: the network.
      method: the method by its seed; None: the sum of the losses in one backward pass.
      config: the protocol.
      optimizer: what follows the method, without a learning rate; None: Adam.
      compiler_options: of all programs, see `jax.jit`.

    Raises:
      UserError: if the learning rate is to follow a validation that there is not.
    """

    def __init__(
        self,
        problem: Problem,
        model: Model,
        method: MethodFactory | None,
        config: TrainConfig,
        optimizer: optax.GradientTransformation | None = None,
        compiler_options: dict[str, Any] | None = None,
    ) -> None:
        self.problem, self.model, self.config = problem, model, config
        self._validates = bool(problem.batches("validation"))
        if config.schedule == "plateau" and not self._validates:
            raise UserError("--train.schedule plateau: nothing is held out for validation")
        rest = optimizer or adam(config)

        def update(seed: int) -> Any:
            return make_update(model, None if method is None else method(seed), rest)

        jit = functools.partial(jax.jit, compiler_options=compiler_options)
        _, step = update(seed=0)  # a seed makes a difference to the initial state alone

        @functools.partial(jit, static_argnums=1)
        def init_state(variables, seed):
            key = jax.random.fold_in(jax.random.key(seed), 1)  # `init` has the other one
            return update(seed)[0](*variables, key)

        @functools.partial(jit, static_argnums=2, donate_argnums=0)
        def train_step(state, data, static, arrays, learning_rate):
            return step(state, problem.load(data, static, arrays), learning_rate)

        @functools.partial(jit, static_argnums=2)
        def totals(variables, data, static, arrays):
            params, batch_stats = variables
            batch = problem.load(data, static, arrays)
            return problem.totals(model.predict(params, batch_stats, batch), batch)

        @functools.partial(jit, static_argnums=2)
        def probe(variables, data, static, arrays):
            """Norms [T] and cosines [T, T] of the raw task gradients on one batch."""
            params, batch_stats = variables
            batch = problem.load(data, static, arrays)
            _, grads = model.task_grads(params, batch_stats, batch, jax.random.key(0))
            return dbmtl.task_norms(grads[0]), dbmtl.task_cosine_similarity(grads[0])

        @functools.partial(jit, donate_argnums=0)
        def keep_best(best, variables, improved):
            """Every model's best variables so far."""

            def choose(old, new):
                better = per_model(model, improved, new)
                return jax.tree.map(jnp.where, better, new, old)

            return tuple(map(choose, best, variables))

        self._learning_rate = LearningRate(config, model.num_models)
        self._init_state, self._train_step, self._totals = init_state, train_step, totals
        self._probe, self._keep_best = probe, keep_best

    def repeated_step(self, seed: int = 0) -> Callable[[], Any]:
        """A function that takes a training step on one fixed batch, to be timed."""
        ((static, arrays),) = self._read(self.problem.batches("train", seed=seed)[:1])
        rate = jnp.full(self.model.num_models, self.config.learning_rate)
        states = [self._init_state(self.model.init(jax.random.key(seed)), seed)]

        def step() -> Any:
            state, losses = self._train_step(states.pop(), self.problem.data, static, arrays, rate)
            states.append(state)
            return losses

        return step

    def _read(self, batches: list[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """The batches with what lies on the host, which is read while the device computes."""
        with Prefetch(lambda batch: (batch[0], self.problem.read(*batch)), batches) as ready:
            yield from ready

    def evaluate(self, variables: Variables, split: str) -> Metrics:
        """All metrics of a split; NaN if it is empty."""
        parts = [
            self._totals(variables, self.problem.data, static, arrays)
            for static, arrays in self._read(self.problem.batches(split))
        ]
        if not parts:
            return [[float("nan")] * len(metrics) for metrics in self.problem.higher_is_better]
        return self.problem.metrics(
            jax.tree.map(lambda *rows: np.sum(rows, axis=0), *jax.device_get(parts))
        )

    def scores(self, values: Metrics, reference: Metrics) -> np.ndarray:
        """What validation maximises, [num_models]: Δp, or each task's own where independent."""
        deltas = delta_p_per_task(values, reference, self.problem.higher_is_better)
        chosen = deltas if self.model.independent else deltas.mean(keepdims=True)
        return chosen.astype(np.float32)

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
        best = self.model.init(jax.random.key(seed))
        # A copy, as the state is donated to every step.
        state = self._init_state(jax.tree.map(jnp.copy, best), seed)
        rate_state = self._learning_rate.init()
        best_scores = np.full(self.model.num_models, -np.inf, np.float32)
        best_epochs = np.zeros(self.model.num_models, int)
        best_values: Metrics = [[] for _ in problem.tasks]
        reference = baseline.validation if baseline else None

        log.write(
            "start",
            seed=seed,
            dataset=problem.name,
            network=problem.network,
            tasks=problem.tasks,
            metrics=problem.metric_names,
            higher_is_better=problem.higher_is_better,
            sample_data=problem.is_sample,
            num_parameters=sum(leaf.size for leaf in jax.tree.leaves(best[0])),
            environment=environment(),
        )
        # Always the same batch: its gradients are comparable over epochs, and one program does.
        (probe_batch,) = self._read(problem.batches("train", seed=seed)[:1])
        step, seconds, speeds = 0, 0.0, []
        for epoch in range(config.epochs):
            batches = problem.batches("train", seed=seed, epoch=epoch)
            learning_rate = self._learning_rate.value(rate_state, epoch)
            progress.begin_epoch(epoch, config.epochs, len(batches))
            begin = time.perf_counter()
            losses = []
            for static, arrays in self._read(batches):
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

            values = self.evaluate(state.variables, "validation")
            reference = reference or values
            scores = self.scores(values, reference)
            norms: Any = np.full(len(problem.tasks), np.nan)
            cosines = None
            if self.model.independent != "listed":  # else a program as large as the step's, for T
                norms, cosines = self._probe(state.variables, data, *probe_batch)
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
            # Without validation the last epoch counts. Any epoch is better than none.
            improved = (scores > best_scores) | (not self._validates or epoch == 0)
            best = self._keep_best(best, state.variables, improved)
            best_scores = np.where(improved, np.nan_to_num(scores, nan=-np.inf), best_scores)
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
            rate_state = self._learning_rate.update(rate_state, scores)

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
