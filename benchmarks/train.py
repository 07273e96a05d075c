"""The training loop: one for every method."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

import dbmtl_jax as dbmtl
from benchmarks import distributed, examples_file, precision, together
from benchmarks.checkpoints import Checkpoints
from benchmarks.config import TrainConfig
from benchmarks.data.vision.loader import Prefetch
from benchmarks.errors import UserError
from benchmarks.learning_rate import LearningRate
from benchmarks.mesh import Layout
from benchmarks.problems.problem import Metrics, Model, Problem, Variables
from benchmarks.progress import Progress
from benchmarks.run_log import Mark, RunLog, environment
from benchmarks.scores import delta_p_per_task
from benchmarks.update import TrainState, adam, make_update, per_model


class Result(NamedTuple):
    """The outcome of a run: metrics at the best epoch, which validation chose."""

    validation: Metrics  # NaN where nothing is held out
    test: Metrics


class Run(NamedTuple):
    """One seed that is to be trained."""

    seed: int
    """of initialisation and of the order of batches"""
    baseline: Result | None
    """the single-task results that Δp is relative to; None for these themselves"""
    log: RunLog
    """receives every figure"""


class Standing(NamedTuple):
    """What validation has said about one seed."""

    best: Variables
    scores: np.ndarray  # [num_models] of the best epochs
    epochs: np.ndarray  # [num_models]
    values: Metrics  # of the best epochs
    reference: Metrics  # that scores are relative to
    rate: Any  # the state of the learning rate
    failed: bool  # its losses are not finite


class State(NamedTuple):
    """All that the rest of a run depends on; a checkpoint holds it, and nothing else is needed."""

    train: TrainState  # of several seeds: stacked
    standings: list[Standing]  # of every seed
    epoch: int
    step: int  # within the epoch, of the batch that comes next
    losses: Any  # of the epoch's steps so far, a list of [T] or [seeds, T]
    steps_before: int  # in earlier epochs
    seconds_before: float
    seconds: float  # in this epoch
    speeds: np.ndarray  # [epochs] steps per second; NaN where there were also programs to compile


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
      mesh: the devices, see `benchmarks.mesh`; None: one.

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
        mesh: Mesh | None = None,
    ) -> None:
        model = precision.compute_in(config.compute_dtype, model)
        self.problem, self.model, self.config = problem, model, config
        layout = Layout(mesh, model.num_tasks, stacked=model.independent == "stacked")
        self._layout, self._data = layout, layout.put_copies(problem.data)
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
            return layout.divide(update(seed)[0](*variables, key), variables[0])

        @functools.partial(jit, static_argnums=2, donate_argnums=0)
        def train_step(state, data, static, arrays, learning_rate):
            def one(state, arrays, learning_rate):
                return step(state, problem.load(data, static, arrays), learning_rate)

            several = learning_rate.ndim > 1  # [seeds, num_models]
            state, losses = (jax.vmap(one) if several else one)(state, arrays, learning_rate)
            return layout.divide(state, state.params), layout.copy(losses)

        @functools.partial(jit, static_argnums=2)
        def totals(variables, data, static, arrays):
            params, batch_stats = variables
            batch = problem.load(data, static, arrays)
            return layout.copy(problem.totals(model.predict(params, batch_stats, batch), batch))

        @functools.partial(jit, static_argnums=2)
        def predict(variables, data, static, arrays):
            params, batch_stats = variables
            batch = problem.load(data, static, arrays)
            return layout.copy((model.predict(params, batch_stats, batch), batch))

        @functools.partial(jit, static_argnums=2)
        def probe(variables, data, static, arrays):
            """Norms [T] and cosines [T, T] of the raw task gradients on one batch."""
            params, batch_stats = variables
            batch = problem.load(data, static, arrays)
            _, grads = model.task_grads(params, batch_stats, batch, jax.random.key(0))
            norms, cosines = dbmtl.task_norms(grads[0]), dbmtl.task_cosine_similarity(grads[0])
            return layout.copy((norms, cosines))

        @functools.partial(jit, donate_argnums=0)
        def keep_best(best, variables, improved):
            """Every model's best variables so far."""

            def choose(old, new):
                better = per_model(model, improved, new)
                return jax.tree.map(jnp.where, better, new, old)

            return layout.divide(tuple(map(choose, best, variables)), best[0])

        self._learning_rate = LearningRate(config, model.num_models)
        self._init_state, self._train_step, self._totals = init_state, train_step, totals
        self._probe, self._predict, self._keep_best = probe, predict, keep_best

    def repeated_step(self, seed: int = 0) -> Callable[[], Any]:
        """A function that takes a training step on one fixed batch, to be timed."""
        ((static, arrays),) = self._read(self.problem.batches("train", seed=seed)[:1])
        rate = jnp.full(self.model.num_models, self.config.learning_rate)
        states = [self._init_state(self._init(seed), seed)]

        def step() -> Any:
            state, losses = self._train_step(states.pop(), self._data, static, arrays, rate)
            states.append(state)
            return losses

        return step

    def _init(self, seed: int) -> Variables:
        variables = self.model.init(jax.random.key(seed))
        return self._layout.put_state(variables, variables[0])

    def _read(self, batches: list[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """The batches with what lies on the host, which is read while the device computes."""
        return self._read_joined([batches])

    def _read_joined(self, plans: Sequence[list[tuple[Any, Any]]]) -> Iterator[tuple[Any, Any]]:
        """The same for batches of several seeds, one list each, every step's as one."""

        def read(batches: Iterable[tuple[Any, Any]]) -> tuple[Any, Any]:
            axis = self.problem.batch_axis
            own = [(static, self._layout.own_rows(arrays, axis)) for static, arrays in batches]
            static, arrays = self.problem.join([(b[0], self.problem.read(*b)) for b in own])
            return static, self._layout.put_batch(arrays, axis)

        with Prefetch(read, zip(*plans, strict=True)) as ready:
            yield from ready

    def evaluate(self, variables: Variables, split: str) -> Metrics:
        """All metrics of a split; NaN if it is empty."""
        parts = [
            self._totals(variables, self._data, static, arrays)
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
        self,
        seed: int,
        baseline: Result | None,
        log: RunLog,
        progress: Progress,
        checkpoints: Checkpoints | None = None,
    ) -> Result | None:
        """`run_together` of one seed."""
        return self.run_together([Run(seed, baseline, log)], progress, checkpoints)[0]

    def run_together(
        self, runs: Sequence[Run], progress: Progress, checkpoints: Checkpoints | None = None
    ) -> list[Result | None]:
        """Trains seeds and reports the test metrics of the epochs that validation chose.

        Args:
          runs: the seeds; several of them are trained in the same steps.
          progress: shows how far they are.
          checkpoints: where the state is saved now and then, and where to go on from if there is
            one; None: nowhere.

        Returns:
          The results; None for a seed whose losses became non-finite, which its log tells.

        Raises:
          UserError: for several seeds on a mesh.
        """
        if self._layout.mesh is not None and len(runs) > 1:
            raise UserError(
                f"--mesh: expected seeds that are trained one by one, found {len(runs)} together"
            )
        state = self._resume(runs, progress, checkpoints) or self._begin(runs)
        probes = [
            next(self._read(self.problem.batches("train", seed=run.seed)[:1])) for run in runs
        ]
        compiles = True
        while state.epoch < self.config.epochs and not all(s.failed for s in state.standings):
            state = self._train(state, runs, progress, checkpoints)
            state = self._judge(state, runs, probes, progress, compiles)
            compiles = False
            if checkpoints is not None and checkpoints.due:
                self._save(state, runs, checkpoints)
        results = [self._finish(state, *both) for both in zip(runs, state.standings, strict=True)]
        if checkpoints is not None:
            checkpoints.discard()
        return results

    def _initial(self, runs: Sequence[Run]) -> State:
        """The state before the first step."""
        models, tasks = self.model.num_models, self.problem.higher_is_better
        unknown: Metrics = [[float("nan")] * len(metrics) for metrics in tasks]
        variables = [self._init(run.seed) for run in runs]
        states = [
            # A copy, as the state is donated to every step.
            self._init_state(jax.tree.map(jnp.copy, own), run.seed)
            for own, run in zip(variables, runs, strict=True)
        ]
        standings = [
            Standing(
                best=own,
                scores=np.full(models, -np.inf, np.float32),
                epochs=np.zeros(models, int),
                values=unknown,
                reference=unknown if run.baseline is None else run.baseline.validation,
                rate=self._learning_rate.init(),
                failed=False,
            )
            for own, run in zip(variables, runs, strict=True)
        ]
        return State(
            train=together.stack(states),
            standings=standings,
            epoch=0,
            step=0,
            losses=[],
            steps_before=0,
            seconds_before=0.0,
            seconds=0.0,
            speeds=np.full(self.config.epochs, np.nan),
        )

    def _begin(self, runs: Sequence[Run]) -> State:
        """The state before the first step, and the first records."""
        problem, state = self.problem, self._initial(runs)
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
                num_parameters=sum(leaf.size for leaf in jax.tree.leaves(standing.best[0])),
                environment=environment(),
            )
        return state

    def _save(self, state: State, runs: Sequence[Run], checkpoints: Checkpoints) -> None:
        """Writes a checkpoint, which says how far the records were then."""
        for run in runs:
            run.log.sync()
        state = state._replace(losses=self._table(state.losses, len(runs)))
        checkpoints.save({"state": state, "marks": [run.log.mark for run in runs]})

    def _resume(
        self, runs: Sequence[Run], progress: Progress, checkpoints: Checkpoints | None
    ) -> State | None:
        """The state of the newest checkpoint that can be used, and the records as they were."""
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
        """Losses as a table of the same size at every step of an epoch."""
        steps = len(self.problem.batches("train"))
        seeds = (num_seeds,) if num_seeds > 1 else ()
        table = np.full((steps, *seeds, self.model.num_tasks), np.nan, jnp.zeros(()).dtype)
        for row, loss in zip(table, jax.device_get(losses), strict=False):
            row[...] = loss
        return table

    def _train(
        self, state: State, runs: Sequence[Run], progress: Progress, checkpoints: Checkpoints | None
    ) -> State:
        """Takes the steps of the epoch that are left."""
        epoch = state.epoch
        plans = [self.problem.batches("train", seed=run.seed, epoch=epoch) for run in runs]
        rates = together.stack([self._learning_rate.value(s.rate, epoch) for s in state.standings])
        rates = self._layout.put_copies(rates)
        progress.begin_epoch(epoch, self.config.epochs, len(plans[0]), state.step)
        losses = list(state.losses)
        begin = time.perf_counter() - state.seconds
        for static, arrays in self._read_joined([plan[state.step :] for plan in plans]):
            train, loss = self._train_step(state.train, self._data, static, arrays, rates)
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
        probes: Sequence[tuple[Any, Any]],
        progress: Progress,
        compiles: bool,
    ) -> State:
        """Records an epoch that has been trained, and what validation says of it."""
        tables = [state.losses] if len(runs) == 1 else np.moveaxis(state.losses, 1, 0)
        variables = together.unstack(state.train.variables, len(runs))
        everything = zip(runs, state.standings, variables, tables, probes, strict=True)
        standings = [
            own[1] if own[1].failed else self._judge_one(state, progress, *own)
            for own in everything
        ]
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

    def _judge_one(
        self,
        state: State,
        progress: Progress,
        run: Run,
        before: Standing,
        variables: Variables,
        table: np.ndarray,
        probe_batch: tuple[Any, Any],
    ) -> Standing:
        """The same for one seed with its own losses [steps, T]."""
        config, epoch, log = self.config, state.epoch, run.log
        for k in range(0, len(table), config.log_every):
            log.write("step", step=state.steps_before + k, epoch=epoch, losses=table[k])
        finite = np.isfinite(table).all(axis=1)
        if not finite.all():
            bad = int(np.argmin(finite))
            step = state.steps_before + bad
            log.write("failed", step=step, epoch=epoch, losses=table[bad])
            progress.note(
                f"the losses of seed {run.seed} are not finite at step {step}: run given up"
            )
            return before._replace(failed=True)

        values = self.evaluate(variables, "validation")
        first = run.baseline is None and epoch == 0
        reference = values if first else before.reference
        scores = self.scores(values, reference)
        norms: Any = np.full(len(self.problem.tasks), np.nan)
        cosines = None
        if self.model.independent != "listed":  # else a program as large as the step's, for T
            # Always the same batch: its gradients are comparable over epochs.
            norms, cosines = self._probe(variables, self._data, *probe_batch)
        log.write(
            "epoch",
            epoch=epoch,
            step=state.steps_before + state.step,
            learning_rate=self._learning_rate.value(before.rate, epoch),
            losses=table.mean(axis=0),
            validation=values,
            score=scores,
            gradient_norms=norms,
            cosine_similarity=None if self.model.independent else cosines,
            seconds=state.seconds,
        )
        # Without validation the last epoch counts. Any epoch is better than none.
        improved = (scores > before.scores) | (not self._validates or epoch == 0)
        chosen = zip(values, before.values, np.broadcast_to(improved, len(values)), strict=True)
        return Standing(
            best=self._keep_best(before.best, variables, improved),
            scores=np.where(improved, np.nan_to_num(scores, nan=-np.inf), before.scores),
            epochs=np.where(improved, epoch, before.epochs),
            values=[new if better else old for new, old, better in chosen],
            reference=reference,
            rate=self._learning_rate.update(before.rate, scores),
            failed=False,
        )

    def _keep_examples(self, variables: Variables, log: RunLog) -> None:
        """Writes a few of the test set's inputs with their predictions beside the records."""
        static, arrays = next(self._read(self.problem.batches("test")[:1]))
        predictions, batch = self._predict(variables, self._data, static, arrays)
        examples = self.problem.examples(jax.device_get(predictions), jax.device_get(batch))
        if distributed.is_first():
            examples_file.write(log.path.with_suffix(".examples.npz"), *examples)

    def _finish(self, state: State, run: Run, standing: Standing) -> Result | None:
        """Tests the best variables and writes the last record.

        That record makes the run complete: what else it leaves behind must be written before.
        """
        if standing.failed:
            return None
        result = Result(standing.values, self.evaluate(standing.best, "test"))
        if self.problem.has_examples:
            self._keep_examples(standing.best, run.log)
        # Where every epoch had programs to compile, as the only one has, there is nothing better.
        known = state.speeds[np.isfinite(state.speeds)]
        speed = np.median(known) if known.size else state.steps_before / state.seconds_before
        run.log.write(
            "result",
            best_epoch=standing.epochs,
            validation=result.validation,
            test=result.test,
            steps=state.steps_before,
            seconds=state.seconds_before,
            steps_per_second=float(speed),
        )
        return result
