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
from dbmtl_jax.loss_balancing.log_loss import scale_by_log_loss
from dbmtl_jax.methods import METHODS
from dbmtl_jax.metrics import delta_p

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "balance_magnitudes",
    "db_mtl",
    "delta_p",
    "encoder_value_and_task_grads",
    "ew",
    "inverse_power_schedule",
    "per_task_value_and_grads",
    "scale_by_log_loss",
    "sum_tasks",
    "task_cosine_similarity",
    "task_ema",
    "task_norms",
    "value_and_task_grads",
]
