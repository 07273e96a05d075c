"""The training loop, the same for all methods."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.errors import UserError
from benchmarks.progress import Progress
from benchmarks.run_log import Mark, environment
from benchmarks.training import distributed, together
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.programs import Batch, Programs
from benchmarks.training.skipped import SkippedTasks
from benchmarks.training.update import TrainState
from benchmarks.training.validation import Epoch, Result, Run, Standing, Validation

_PROBED = 4
"""The number of batches, the same in all epochs, on which norms and cosines are measured."""


class State(NamedTuple):
    """The full state of a run, which a checkpoint contains."""

    train: TrainState  # stacked for several seeds
    standings: list[Standing]  # state of validation for every seed
    epoch: int
    step: int  # number of the next step within the epoch
    losses: Any  # losses of the epoch so far, a list of [T] or [seeds, T]
    steps_before: int  # number of steps in earlier epochs
    seconds_before: float  # training time of earlier epochs
    seconds: float  # training time of this epoch
    speeds: np.ndarray  # [epochs] steps per second; NaN if programs were compiled, too


class Trainer:
    """Trains a method with one seed, or with several seeds at a time.

    Args:
      programs: compiled functions of the method.

    Raises:
      UserError: if the learning rate schedule needs a validation set, but there is none.
    """

    def __init__(self, programs: Programs) -> None:
        self.programs, self._problem = programs, programs.problem
        self._validation = Validation(programs)
        self._skipped = SkippedTasks(programs.problem.tasks)

    def run(
        self,
        runs: Sequence[Run],
        progress: Progress,
        checkpoints: Checkpoints | None = None,
    ) -> list[Result | None]:
        """Trains runs and tests the best epoch of each, which validation chooses.

        Args:
          runs: the seeds; several of them are trained in the same steps.
          progress: display of the progress.
          checkpoints: checkpoints to resume from and to save to; None: no checkpoints.

        Returns:
          The results; None for a run that failed as its losses became non-finite.

        Raises:
          UserError: for several seeds on a mesh.
        """
        if self.programs.mesh is not None and len(runs) > 1:
            raise UserError(
                f"--mesh: expected seeds that are trained one by one, found {len(runs)} together"
            )
        state = self._resume(runs, progress, checkpoints) or self._begin(runs)
        probes = [self._probes(run) for run in runs]
        compiles = True
        epochs = self.programs.config.epochs
        while state.epoch < epochs and not all(s.failed for s in state.standings):
            state = self._train(state, runs, progress, checkpoints)
            state = self._judge(state, runs, probes, progress, compiles)
            compiles = False
            if checkpoints is not None and checkpoints.due:
                self._save(state, runs, checkpoints)
        results = self._finish(state, runs)
        if checkpoints is not None:
            checkpoints.discard()
        return results

    def _probes(self, run: Run) -> list[Batch]:
        """The first batches of the first one's kind, so that one program measures all of them."""
        batches = self._problem.batches("train", seed=run.seed)
        alike = [batch for batch in batches if batch[0] == batches[0][0]]
        return list(self.programs.read(alike[:_PROBED]))

    def _initial(self, runs: Sequence[Run]) -> State:
        """The initial state."""
        variables = [self.programs.init(run.seed) for run in runs]
        both = list(zip(runs, variables, strict=True))
        return State(
            train=together.stack([self.programs.init_state(own, run.seed) for run, own in both]),
            standings=[self._validation.first(run, own) for run, own in both],
            epoch=0,
            step=0,
            losses=[],
            steps_before=0,
            seconds_before=0.0,
            seconds=0.0,
            speeds=np.full(self.programs.config.epochs, np.nan),
        )

    def _begin(self, runs: Sequence[Run]) -> State:
        """Writes the first records and returns the initial state."""
        problem, state = self._problem, self._initial(runs)
        for run, standing in zip(runs, state.standings, strict=True):
            run.log.rewind(Mark())
            run.log.write(
                "start",
                seed=run.seed,
                dataset=problem.name,
                network=problem.network,
                tasks=problem.tasks,
                metrics=problem.metric_names,
                higher_is_better=problem.higher_is_better,
                sample_data=problem.is_sample,
                initial_weights=problem.initial_weights,
                num_parameters=sum(leaf.size for leaf in jax.tree.leaves(standing.best[0])),
                environment=environment(),
            )
        return state

    def _save(self, state: State, runs: Sequence[Run], checkpoints: Checkpoints) -> None:
        """Writes a checkpoint with the state and the current positions in the logs."""
        for run in runs:
            run.log.sync()
        state = state._replace(losses=self._table(state.losses, len(runs)))
        checkpoints.save({"state": state, "marks": [run.log.mark for run in runs]})

    def _resume(
        self, runs: Sequence[Run], progress: Progress, checkpoints: Checkpoints | None
    ) -> State | None:
        """Restores the newest usable checkpoint, and resets the logs to its positions."""
        if checkpoints is None or not checkpoints.exist:
            return None
        like = self._initial(runs)._replace(losses=self._table([], len(runs)))
        saved = {"state": like, "marks": [run.log.mark for run in runs]}
        for found in checkpoints.restore(saved, progress.note):
            both = list(zip(runs, found["marks"], strict=True))
            if not distributed.agree(all(run.log.begins_with(mark) for run, mark in both)):
                progress.note("the checkpoint is of other records and not used")
                continue
            for run, mark in both:
                run.log.rewind(mark)
            state = found["state"]
            position = f"epoch {state.epoch}, step {state.steps_before + state.step}"
            progress.note(f"resumed at {position}")
            return state._replace(losses=list(state.losses[: state.step]))
        progress.note("no checkpoint can be used: starts over")
        return None

    def _table(self, losses: Sequence[Any], num_seeds: int) -> np.ndarray:
        """The losses as a table whose size is the same at every step of an epoch."""
        steps = len(self._problem.batches("train"))
        seeds = (num_seeds,) if num_seeds > 1 else ()
        table = np.full((steps, *seeds, len(self._problem.tasks)), np.nan, jnp.zeros(()).dtype)
        for row, loss in zip(table, jax.device_get(losses), strict=False):
            row[...] = loss
        return table

    def _train(
        self, state: State, runs: Sequence[Run], progress: Progress, checkpoints: Checkpoints | None
    ) -> State:
        """Takes the remaining steps of the epoch."""
        epoch = state.epoch
        plans = [self._problem.batches("train", seed=run.seed, epoch=epoch) for run in runs]
        rates = [self._validation.learning_rate(own, epoch) for own in state.standings]
        rates = self.programs.copies(together.stack(rates))
        progress.begin_epoch(epoch, self.programs.config.epochs, len(plans[0]), state.step)
        losses = list(state.losses)
        begin = time.perf_counter() - state.seconds
        for batch in self.programs.read_joined([plan[state.step :] for plan in plans]):
            train, loss = self.programs.train_step(state.train, batch, rates)
            losses.append(loss)
            state = state._replace(train=train, step=state.step + 1)
            progress.step(losses)
            if checkpoints is not None and checkpoints.due:
                jax.block_until_ready(train)
                seconds = time.perf_counter() - begin
                self._save(state._replace(losses=losses, seconds=seconds), runs, checkpoints)
                begin = time.perf_counter() - seconds
        table = np.stack(jax.device_get(losses))
        return state._replace(losses=table, seconds=time.perf_counter() - begin)

    def _judge(
        self,
        state: State,
        runs: Sequence[Run],
        probes: Sequence[Sequence[Batch]],
        progress: Progress,
        compiles: bool,
    ) -> State:
        """Validates all seeds after an epoch."""
        tables = [state.losses] if len(runs) == 1 else np.moveaxis(state.losses, 1, 0)
        variables = together.unstack(state.train.variables, len(runs))
        if self.programs.has_method:
            opt_states = together.unstack(state.train.opt_state, len(runs))
            for run, opt_state in zip(runs, opt_states, strict=True):
                self._skipped.note(run.seed, opt_state, progress)
        standings = []
        for run, before, own, table, probe in zip(
            runs, state.standings, variables, tables, probes, strict=True
        ):
            epoch = Epoch(state.epoch, state.steps_before, table, state.seconds, own)
            standings.append(
                before
                if before.failed
                else self._validation.judge(run, before, epoch, probe, progress)
            )
        speeds = state.speeds.copy()
        if not compiles:
            speeds[state.epoch] = state.step / state.seconds
        return State(
            train=state.train,
            standings=standings,
            epoch=state.epoch + 1,
            step=0,
            losses=[],
            steps_before=state.steps_before + state.step,
            seconds_before=state.seconds_before + state.seconds,
            seconds=0.0,
            speeds=speeds,
        )

    def _finish(self, state: State, runs: Sequence[Run]) -> list[Result | None]:
        """Tests the best epochs and writes the last records."""
        # If programs were compiled in every epoch, their times are included.
        known = state.speeds[np.isfinite(state.speeds)]
        speed = np.median(known) if known.size else state.steps_before / state.seconds_before
        return [
            self._validation.finish(
                run, standing, state.steps_before, state.seconds_before, float(speed)
            )
            for run, standing in zip(runs, state.standings, strict=True)
        ]
