"""The compiled functions of a method: the training step, evaluation and others."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

import dbmtl_jax as dbmtl
from benchmarks.methods import Gradients
from benchmarks.problems.problem import Metrics, Model, Problem, Variables
from benchmarks.settings import TrainConfig
from benchmarks.training.mesh import Layout
from benchmarks.training.prefetch import Prefetch
from benchmarks.training.update import TrainState, adam, halves, make_update, per_model

MethodFactory = Callable[[int], optax.GradientTransformationExtraArgs]
"""seed -> a method of `dbmtl_jax.METHODS`; the seed is for the random numbers of the method."""

Batch = tuple[Any, Any]
"""The arguments (static, arrays) of `Problem.load`."""


class _Functions:
    """What the programs of a method compute, before they are compiled.

    `data`, `static` and `arrays` are those of `Problem.load`.
    """

    def __init__(
        self,
        problem: Problem,
        model: Model,
        method: MethodFactory | None,
        optimizer: optax.GradientTransformation,
        gradients: Gradients,
        layout: Layout,
    ) -> None:
        self._problem, self._model, self._method = problem, model, method
        self._optimizer, self._gradients, self._layout = optimizer, gradients, layout
        _, self._step = self._update(seed=0)  # the seed only affects the initial state

    def _update(self, seed: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
        method = None if self._method is None else self._method(seed)
        return make_update(self._model, method, self._optimizer, self._gradients)

    def init_state(self, variables: Variables, seed: int) -> TrainState:
        init, _ = self._update(seed)
        key = jax.random.fold_in(jax.random.key(seed), 1)  # not the key of `Programs.init`
        state: TrainState = self._layout.divide(init(*variables, key), variables[0])
        return state

    def train_step(
        self, state: TrainState, data: Any, static: Any, arrays: Any, learning_rate: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        def one(state: TrainState, arrays: Any, learning_rate: jax.Array) -> Any:
            load = functools.partial(self._problem.load, data, static)
            if self._gradients == "halves":
                batch = [load(part) for part in halves(arrays, self._problem.batch_axis)]
            else:
                batch = load(arrays)
            return self._step(state, batch, learning_rate)

        several = learning_rate.ndim > 1  # [seeds, num_models]
        state, losses = (jax.vmap(one) if several else one)(state, arrays, learning_rate)
        return self._layout.divide(state, state.params), self._layout.copy(losses)

    def totals(self, variables: Variables, data: Any, static: Any, arrays: Any) -> Any:
        batch = self._problem.load(data, static, arrays)
        predictions = self._model.predict(*variables, batch)
        return self._layout.copy(self._problem.totals(predictions, batch))

    def predict(self, variables: Variables, data: Any, static: Any, arrays: Any) -> Any:
        batch = self._problem.load(data, static, arrays)
        return self._layout.copy((self._model.predict(*variables, batch), batch))

    def probe(self, variables: Variables, data: Any, static: Any, arrays: Any) -> Any:
        batch = self._problem.load(data, static, arrays)
        _, grads = self._model.task_grads(*variables, batch, jax.random.key(0))
        norms, cosines = dbmtl.task_norms(grads[0]), dbmtl.task_cosine_similarity(grads[0])
        return self._layout.copy((norms, cosines))

    def keep_best(self, best: Variables, variables: Variables, improved: jax.Array) -> Variables:
        def choose(old: Any, new: Any) -> Any:
            better = per_model(self._model, improved, new)
            return jax.tree.map(jnp.where, better, new, old)

        kept: Variables = self._layout.divide(tuple(map(choose, best, variables)), best[0])
        return kept


class Programs:
    """The compiled functions of one method, for any number of seeds.

    Args:
      problem: data set and tasks.
      model: network with its losses.
      method: seed -> method; None: the sum of the losses in one backward pass.
      config: options of training.
      optimizer: optimizer after the method, without a learning rate; None: Adam.
      gradients: how the method gets the task gradients; stacked if the model has none of the
        wanted kind.
      compiler_options: options for all programs, see `jax.jit`.
      mesh: devices, see `benchmarks.training.mesh`; None: one device.
    """

    def __init__(
        self,
        problem: Problem,
        model: Model,
        method: MethodFactory | None,
        config: TrainConfig,
        optimizer: optax.GradientTransformation | None = None,
        *,
        gradients: Gradients = "stacked",
        compiler_options: dict[str, Any] | None = None,
        mesh: Mesh | None = None,
    ) -> None:
        self.problem, self.model, self.config, self.mesh = problem, model, config, mesh
        self.has_method = method is not None
        layout = Layout(mesh, model.num_tasks, stacked=model.independent == "stacked")
        self._layout, self._data = layout, layout.put_copies(problem.data)
        made = _Functions(problem, model, method, optimizer or adam(config), gradients, layout)
        jit = functools.partial(jax.jit, compiler_options=compiler_options)
        self._init_state = jit(made.init_state, static_argnums=1)
        self._train_step = jit(made.train_step, static_argnums=2, donate_argnums=0)
        self._totals = jit(made.totals, static_argnums=2)
        self._predict = jit(made.predict, static_argnums=2)
        self._probe = jit(made.probe, static_argnums=2)
        self._keep_best = jit(made.keep_best, donate_argnums=0)

    def init(self, seed: int) -> Variables:
        """The initial parameters and batch statistics."""
        variables = self.model.init(jax.random.key(seed))
        return self._layout.put_state(variables, variables[0])

    def init_state(self, variables: Variables, seed: int) -> TrainState:
        """The initial state; it copies the variables, as steps donate their state."""
        return self._init_state(jax.tree.map(jnp.copy, variables), seed)

    def train_step(self, state: TrainState, batch: Batch, rates: jax.Array) -> Any:
        """Takes a training step for one or several seeds: (state, losses [T] or [seeds, T]).

        Args:
          state: the state, which is donated.
          batch: a batch of `read` or `read_joined`.
          rates: learning rates [num_models] or [seeds, num_models], see `copies`.
        """
        return self._train_step(state, self._data, *batch, rates)

    def copies(self, values: Any) -> Any:
        """Copies values, such as learning rates, to all devices."""
        return self._layout.put_copies(values)

    def repeated_step(self, seed: int = 0) -> Callable[[], Any]:
        """A function that takes a training step on a fixed batch, for timing."""
        (batch,) = self.read(self.problem.batches("train", seed=seed)[:1])
        rates = self.copies(jnp.full(self.model.num_models, self.config.learning_rate))
        states = [self.init_state(self.init(seed), seed)]

        def step() -> Any:
            state, losses = self.train_step(states.pop(), batch, rates)
            states.append(state)
            return losses

        return step

    def evaluate(self, variables: Variables, split: str) -> Metrics:
        """All metrics of a split; NaN if the split is empty."""
        parts = [
            self._totals(variables, self._data, *batch)
            for batch in self.read(self.problem.batches(split))
        ]
        if not parts:
            return [[float("nan")] * len(metrics) for metrics in self.problem.higher_is_better]
        return self.problem.metrics(
            jax.tree.map(lambda *rows: np.sum(rows, axis=0), *jax.device_get(parts))
        )

    def probe(self, variables: Variables, batches: Sequence[Batch]) -> tuple[Any, Any]:
        """The norms [T] and cosine similarities [T, T] of task gradients, means over batches."""
        found = [self._probe(variables, self._data, *batch) for batch in batches]
        norms, cosines = zip(*jax.device_get(found), strict=True)
        return np.mean(norms, axis=0), np.mean(cosines, axis=0)

    def predict(self, variables: Variables, batch: Batch) -> tuple[Any, Any]:
        """The predictions for a batch, and the batch as the input of the network."""
        return self._predict(variables, self._data, *batch)

    def keep_best(self, best: Variables, variables: Variables, improved: np.ndarray) -> Variables:
        """Updates the best variables of the models where `improved` [num_models] is True."""
        return self._keep_best(best, variables, improved)

    def read(self, batches: list[Batch]) -> Iterator[Batch]:
        """Reads batches in the background while the device computes."""
        return self.read_joined([batches])

    def read_joined(self, plans: Sequence[list[Batch]]) -> Iterator[Batch]:
        """Like `read`, for a list of batches per seed; the batches of each step are joined."""

        def read(batches: Iterable[Batch]) -> Batch:
            axis = self.problem.batch_axis
            own = [(static, self._layout.own_rows(arrays, axis)) for static, arrays in batches]
            static, arrays = self.problem.join([(b[0], self.problem.read(*b)) for b in own])
            return static, self._layout.put_batch(arrays, axis)

        with Prefetch(read, zip(*plans, strict=True)) as ready:
            yield from ready
