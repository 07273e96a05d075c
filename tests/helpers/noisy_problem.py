"""A problem that compiles quickly and uses all that a run's state has: keys and statistics too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import dbmtl_jax as dbmtl
from benchmarks.problems.problem import Model, Problem


class NoisyProblem(Problem):
    """Two linear regressions with dropout of inputs and a running mean of the predictions.

    The baseline is two networks in a list, as those of images are.

    Args:
      broken_seed: the batches of this seed have a loss that is not finite from the second epoch on.
    """

    name, network = "regression", "linear"
    tasks = ("a", "b")
    metric_names = (("MSE", "bias"), ("MSE",))
    higher_is_better = ((False, False), (False,))

    def __init__(self, broken_seed: int | None = None):
        self._broken_seed = broken_seed
        rng = np.random.default_rng(0)
        x = rng.normal(size=(48, 3))
        y = x @ rng.normal(size=(3, 2)) + 0.1 * rng.normal(size=(48, 2))
        self.data = (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))

        def outputs(params, x):
            return jnp.stack([x @ params[0] @ head for head in params[1]], axis=1)

        def losses(params, statistics, batch, key):
            x, y, factor = batch
            x = x * jax.random.bernoulli(key, 0.9, x.shape)
            predictions = outputs(params, x)
            new = {"mean": 0.9 * statistics["mean"] + 0.1 * predictions.mean(axis=0)}
            shifted = predictions - 0.1 * jax.lax.stop_gradient(new["mean"])[None]
            return factor * jnp.mean((shifted - y) ** 2, axis=0), new

        def predict(params, statistics, batch):
            return outputs(params, batch[0]) - 0.1 * statistics["mean"][None]

        def init(key):
            encoder = jax.random.normal(key, (3, 4))
            return (encoder, [jnp.ones(4), jnp.ones(4)]), {"mean": jnp.zeros(2)}

        task_grads = functools.partial(
            dbmtl.value_and_task_grads, losses, labels=("shared", [0, 1]), has_aux=True
        )
        self.multi_task = Model(
            init=init,
            losses=losses,
            task_grads=task_grads(),
            predict=predict,
            num_tasks=2,
            pending_task_grads=task_grads(stream=True),
        )

        def each_losses(params, statistics, batch, key):
            rows = [
                losses(p, s, batch, jax.random.fold_in(key, t))
                for t, (p, s) in enumerate(zip(params, statistics, strict=True))
            ]
            return jnp.stack([row[0][t] for t, row in enumerate(rows)]), [row[1] for row in rows]

        def each_grads(params, statistics, batch, key):
            def total(params):
                values, statistics_ = each_losses(params, statistics, batch, key)
                return values.sum(), (values, statistics_)

            grads, both = jax.grad(total, has_aux=True)(params)
            return both, grads

        def each_predict(params, statistics, batch):
            rows = [predict(p, s, batch) for p, s in zip(params, statistics, strict=True)]
            return jnp.stack([row[:, t] for t, row in enumerate(rows)], axis=1)

        def each_init(key):
            rows = [init(k) for k in jax.random.split(key)]
            return [row[0] for row in rows], [row[1] for row in rows]

        self.single_task = Model(
            init=each_init,
            losses=each_losses,
            task_grads=each_grads,
            predict=each_predict,
            num_tasks=2,
            independent="listed",
        )

    def batches(self, split, *, seed=0, epoch=0):
        if split != "train":
            return [(None, (np.arange(32, 48), np.float32(1)))]
        order = np.random.default_rng([seed, epoch]).permutation(32).reshape(4, 8)
        broken = seed == self._broken_seed and epoch > 0
        factor = np.float32(np.nan if broken else 1)
        return [(None, (rows, factor)) for rows in order]

    def load(self, data, static, arrays):
        rows, factor = arrays
        return data[0][rows], data[1][rows], factor

    def totals(self, predictions, batch):
        errors = predictions - batch[1]
        return jnp.mean(errors**2, axis=0), jnp.abs(errors.mean(axis=0)[0]), jnp.ones(())

    def metrics(self, totals):
        losses, bias, count = totals
        return [[float(losses[0] / count), float(bias / count)], [float(losses[1] / count)]]


class AllTrain(NoisyProblem):
    """Without a validation set."""

    def batches(self, split, **options):
        return [] if split == "validation" else super().batches(split, **options)
