"""Validation after every epoch: the choice of the best epoch, the learning rate, and records.

Without a validation set, the last epochs are tested instead, and the mean of their metrics counts.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import examples_file
from benchmarks.errors import UserError
from benchmarks.problems.problem import Metrics, Variables
from benchmarks.progress import Progress
from benchmarks.run_log import RunLog
from benchmarks.scores import delta_p_per_task
from benchmarks.training import distributed
from benchmarks.training.learning_rate import LearningRate
from benchmarks.training.programs import Batch, Programs


class Result(NamedTuple):
    """The result of a run: the metrics of the best epoch, which validation chooses.

    Without a validation set, `test` is the mean over the last epochs.
    """

    validation: Metrics  # NaN without a validation set
    test: Metrics


class Run(NamedTuple):
    """A run: one seed of a method."""

    seed: int
    """seed of the initial parameters and of the order of the batches"""
    baseline: Result | None
    """result of single-task learning, to which Δp is relative; None for a run of it"""
    log: RunLog
    """log for the records of the run"""


class Standing(NamedTuple):
    """The state of validation for one seed."""

    best: Variables  # parameters and batch statistics of the best epochs
    scores: np.ndarray  # [num_models] validation scores of the best epochs
    epochs: np.ndarray  # [num_models] numbers of the best epochs
    values: Metrics  # validation metrics of the best epochs
    reference: Metrics  # validation metrics to which scores are relative
    tested: Metrics  # sums of the test metrics of the last epochs; 0 with a validation set
    rate: Any  # state of the learning rate schedule
    failed: bool  # whether losses were not finite


class Epoch(NamedTuple):
    """A trained epoch of one seed."""

    number: int
    steps_before: int  # number of steps in earlier epochs
    losses: np.ndarray  # [steps, T]
    seconds: float
    variables: Variables  # parameters and batch statistics after the last step


class Validation:
    """Validates the runs of one method after every epoch.

    Args:
      programs: compiled functions of the method.

    Raises:
      UserError: if the learning rate schedule needs a validation set, but there is none.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._learning_rate = LearningRate(programs.config, programs.model.num_models)
        self._held_out = bool(programs.problem.batches("validation"))
        if programs.config.schedule == "plateau" and not self._held_out:
            raise UserError("--train.schedule plateau: nothing is held out for validation")
        if programs.config.last_epochs < 1:
            raise UserError(
                f"--train.last-epochs: expected at least 1, found {programs.config.last_epochs}"
            )
        self._averaged = min(programs.config.last_epochs, programs.config.epochs)

    def first(self, run: Run, variables: Variables) -> Standing:
        """The state before the first epoch."""
        models, tasks = self._programs.model.num_models, self._programs.problem.higher_is_better
        unknown: Metrics = [[float("nan")] * len(metrics) for metrics in tasks]
        return Standing(
            best=variables,
            scores=np.full(models, -np.inf, np.float32),
            epochs=np.zeros(models, int),
            values=unknown,
            reference=unknown if run.baseline is None else run.baseline.validation,
            tested=[[0.0] * len(metrics) for metrics in tasks],
            rate=self._learning_rate.init(),
            failed=False,
        )

    def learning_rate(self, standing: Standing, epoch: int) -> jax.Array:
        """The learning rates [num_models] of an epoch."""
        return self._learning_rate.value(standing.rate, epoch)

    def scores(self, values: Metrics, reference: Metrics) -> np.ndarray:
        """The scores to maximise, [num_models]: Δp, or that of each task for single-task models."""
        deltas = delta_p_per_task(values, reference, self._programs.problem.higher_is_better)
        chosen = deltas if self._programs.model.independent else deltas.mean(keepdims=True)
        return chosen.astype(np.float32)

    def judge(
        self,
        run: Run,
        before: Standing,
        epoch: Epoch,
        probes: Sequence[Batch],
        progress: Progress,
    ) -> Standing:
        """Validates an epoch, writes its records, and returns the new state.

        Args:
          run: the run.
          before: state before the epoch.
          epoch: the trained epoch.
          probes: batches for norms and cosines of gradients, the same for all epochs.
          progress: display for the message on a failure.
        """
        programs, log, table = self._programs, run.log, epoch.losses
        for k in range(0, len(table), programs.config.log_every):
            log.write("step", step=epoch.steps_before + k, epoch=epoch.number, losses=table[k])
        finite = np.isfinite(table).all(axis=1)
        if not finite.all():
            bad = int(np.argmin(finite))
            step = epoch.steps_before + bad
            log.write("failed", step=step, epoch=epoch.number, losses=table[bad])
            progress.note(
                f"the losses of seed {run.seed} are not finite at step {step}: run given up"
            )
            return before._replace(failed=True)

        values = programs.evaluate(epoch.variables, "validation")
        first = run.baseline is None and epoch.number == 0
        reference = values if first else before.reference
        scores = self.scores(values, reference)
        norms: Any = np.full(programs.model.num_tasks, np.nan)
        cosines = None
        if programs.model.independent != "listed":  # its program would be too large
            norms, cosines = programs.probe(epoch.variables, probes)
        test = None
        if not self._held_out and epoch.number >= programs.config.epochs - self._averaged:
            test = programs.evaluate(epoch.variables, "test")
        log.write(
            "epoch",
            epoch=epoch.number,
            step=epoch.steps_before + len(table),
            learning_rate=self.learning_rate(before, epoch.number),
            losses=table.mean(axis=0),
            validation=values,
            score=scores,
            gradient_norms=norms,
            cosine_similarity=None if programs.model.independent else cosines,
            seconds=epoch.seconds,
            **({} if test is None else {"test": test}),
        )
        # Without a validation set, the last variables are kept. The first epoch always counts.
        improved = (scores > before.scores) | (not self._held_out or epoch.number == 0)
        chosen = zip(values, before.values, np.broadcast_to(improved, len(values)), strict=True)
        return Standing(
            best=programs.keep_best(before.best, epoch.variables, improved),
            scores=np.where(improved, np.nan_to_num(scores, nan=-np.inf), before.scores),
            epochs=np.where(improved, epoch.number, before.epochs),
            values=[new if better else old for new, old, better in chosen],
            reference=reference,
            tested=before.tested if test is None else _sum(before.tested, test),
            rate=self._learning_rate.update(before.rate, scores),
            failed=False,
        )

    def finish(
        self, run: Run, standing: Standing, steps: int, seconds: float, steps_per_second: float
    ) -> Result | None:
        """Tests the best epoch and writes the last record; returns None for a failed run.

        The last record marks the run as complete, so all other files must be written before.
        """
        if standing.failed:
            return None
        result = Result(standing.values, self._test(standing))
        if self._programs.problem.has_examples:
            self._keep_examples(standing.best, run.log)
        run.log.write(
            "result",
            best_epoch=standing.epochs,
            validation=result.validation,
            test=result.test,
            tested_epochs=1 if self._held_out else self._averaged,
            steps=steps,
            seconds=seconds,
            steps_per_second=steps_per_second,
        )
        return result

    def _test(self, standing: Standing) -> Metrics:
        """The test metrics of the best epoch, or the means of those of the last epochs."""
        if self._held_out:
            return self._programs.evaluate(standing.best, "test")
        return [[total / self._averaged for total in task] for task in standing.tested]

    def _keep_examples(self, variables: Variables, log: RunLog) -> None:
        """Writes some test images with their targets and predictions to a file."""
        problem = self._programs.problem
        batch = next(self._programs.read(problem.batches("test")[:1]))
        predictions, seen = self._programs.predict(variables, batch)
        examples = problem.examples(jax.device_get(predictions), jax.device_get(seen))
        if distributed.is_first():
            examples_file.write(log.path.with_suffix(".examples.npz"), *examples)


def _sum(totals: Metrics, values: Metrics) -> Metrics:
    return [
        [a + b for a, b in zip(*task, strict=True)] for task in zip(totals, values, strict=True)
    ]
