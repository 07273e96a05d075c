"""Multi-task optimisation for JAX: DB-MTL as optax transformations of stacked task gradients."""

from dbmtl_jax._db_mtl import balance_magnitudes, db_mtl
from dbmtl_jax._engine import (
    encoder_value_and_task_grads,
    per_task_value_and_grads,
    value_and_task_grads,
)
from dbmtl_jax._task_ema import inverse_power_schedule, task_ema
from dbmtl_jax.diagnostics import task_cosine_similarity, task_norms
from dbmtl_jax.gradient_balancing.equal_weighting import ew, sum_tasks
from dbmtl_jax.loss_balancing.dynamic_average import dwa, scale_by_dwa
from dbmtl_jax.loss_balancing.geometric import gls, scale_by_gls
from dbmtl_jax.loss_balancing.impartial import imtl_l, scale_by_imtl_l
from dbmtl_jax.loss_balancing.improvable_gap import igbv2, scale_by_igbv2
from dbmtl_jax.loss_balancing.log_loss import scale_by_log_loss
from dbmtl_jax.loss_balancing.random import rlw, scale_by_rlw
from dbmtl_jax.loss_balancing.uncertainty import scale_by_uw, uw
from dbmtl_jax.methods import METHODS
from dbmtl_jax.metrics import delta_p

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "balance_magnitudes",
    "db_mtl",
    "delta_p",
    "dwa",
    "encoder_value_and_task_grads",
    "ew",
    "gls",
    "igbv2",
    "imtl_l",
    "inverse_power_schedule",
    "per_task_value_and_grads",
    "rlw",
    "scale_by_dwa",
    "scale_by_gls",
    "scale_by_igbv2",
    "scale_by_imtl_l",
    "scale_by_log_loss",
    "scale_by_rlw",
    "scale_by_uw",
    "sum_tasks",
    "task_cosine_similarity",
    "task_ema",
    "task_norms",
    "uw",
    "value_and_task_grads",
]
