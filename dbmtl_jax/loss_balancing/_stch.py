"""STCH: a smooth form of the largest weighted loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._loss_balancer import LossBalancer, loss_balancer, scaling_form
from dbmtl_jax.core._names import numbers
from dbmtl_jax.core._preference import Preference, priorities, shares
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Array, Count, Int, Labels, PerTask, PyTree, Scalar, TaskCount


class STCHState(NamedTuple):
    """The losses of the last epoch of the warm-up, whose means are the nadir n."""

    step: Int[Array, ""]
    totals: PerTask
    counts: PerTask


def stch(
    num_tasks: TaskCount,
    *,
    mu: Scalar = 1.0,
    preference: Preference = None,
    reference: Preference = None,
    log_nadir: bool = False,
    steps_per_epoch: Count = 1,
    warmup_epochs: Count = 4,
    labels: Labels = None,
) -> LossBalancer:
    r"""Smooth Tchebycheff scalarisation.

    .. math:: \mu \log \sum_t \exp\big(u_t (\ell_t - z_t) / \mu\big): \qquad
        w_t = u_t \, \mathrm{softmax}\big(u (\ell - z) / \mu\big)_t

    For μ → 0 it is the largest :math:`u_t (\ell_t - z_t)`, for μ → ∞ the mean over T.  With
    `log_nadir` the losses are compared in units of their means n over the last epoch of a warm-up,
    during which w = 1/ℓ; afterwards

    .. math:: T \mu \log \sum_t (\ell_t / n_t)^{1/\mu}: \qquad
        w_t = T \, \mathrm{softmax}\big(\log(\ell / n) / \mu\big)_t / \ell_t

    which needs positive losses.  A task's own parameters get their gradient times w_t.

    Args:
      num_tasks: T, or the names of the tasks.
      mu: μ > 0, in units of the losses (with `log_nadir` of their logarithms).
      preference: u, [T] positive numbers of which only the ratios count, or by name; None: 1/T
        each.  Not with `log_nadir`.
      reference: z, [T] numbers below the losses, or by name; None: 0.  Not with `log_nadir`.
      log_nadir: whether to use the second form.
      steps_per_epoch: the length of an epoch, in steps, for the warm-up.
      warmup_epochs: the number of epochs before the one whose mean losses are n.
      labels: see `dbmtl_jax.core`.

    Raises:
      TypeError, ValueError: for an option out of range, or one that does not go with `log_nadir`.

    Source: Lin et al., Smooth Tchebycheff scalarization for multi-objective optimization, ICML
    2024, Eq. 9 and Appendix B.1.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.stch(num_tasks=2, mu=0.5)
      >>> losses = jnp.array([1.0, 3.0])
      >>> update, _ = tx.update(jnp.ones((2, 1)), tx.init(jnp.zeros(1)), losses=losses)
      >>> with jnp.printoptions(precision=3):
      ...     print(update)
      [0.5]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("mu", mu, 0.0, open_low=True)
    _checks.check_count("steps_per_epoch", steps_per_epoch)
    _checks.check_count("warmup_epochs", warmup_epochs, 0)
    wanted = priorities(preference, num_tasks)
    ideal = np.zeros(num_tasks) if reference is None else numbers("reference", reference, num_tasks)
    if log_nadir and (preference is not None or reference is not None):
        name = "reference" if preference is None else "preference"
        raise TypeError(f"{name}: expected None with log_nadir")

    def plain(tasks: Tasks, memory: tuple[()]) -> tuple[PerTask, tuple[()]]:
        present = tasks.present
        share = shares(wanted, present).astype(tasks.losses.dtype)
        heights = share * (tasks.losses - ideal)
        # Divided by a small μ a large loss would overflow.
        heights -= jnp.max(heights, where=present, initial=-jnp.finfo(heights.dtype).max)
        weights = jax.nn.softmax(heights / mu, where=present | ~jnp.any(present))
        return share * weights, memory

    def init(shared: PyTree) -> STCHState:
        zeros = task_vector(num_tasks, 0, shared)
        return STCHState(jnp.zeros((), jnp.int32), zeros, jnp.zeros_like(zeros))

    def in_units_of_nadir(tasks: Tasks, memory: STCHState) -> tuple[PerTask, STCHState]:
        step, totals, counts = memory
        losses, present = tasks.losses, tasks.present
        epoch = step // steps_per_epoch
        is_nadir = present & (epoch == warmup_epochs)
        totals = totals + jnp.where(is_nadir, losses, 0)
        counts = counts + is_nadir
        nadir = jnp.where(counts > 0, totals / jnp.maximum(counts, 1), 1)
        heights = jnp.log(losses / nadir) / mu
        later = num_tasks * jax.nn.softmax(heights, where=present | ~jnp.any(present))
        weights = jnp.where(epoch > warmup_epochs, later, 1) / losses
        return weights, STCHState(optax.safe_increment(step), totals, counts)

    if log_nadir:
        return loss_balancer(
            num_tasks, in_units_of_nadir, init=init, above=0.0, labels=labels, name="stch"
        )
    return loss_balancer(num_tasks, plain, labels=labels, name="stch")


scale_by_stch = scaling_form(stch)
