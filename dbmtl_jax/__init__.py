"""Multi-task optimisation for JAX: DB-MTL as optax transformations of stacked task gradients."""

from dbmtl_jax._db_mtl import balance_magnitudes, db_mtl
from dbmtl_jax._engine import (
    encoder_value_and_task_grads,
    per_task_value_and_grads,
    value_and_task_grads,
)
from dbmtl_jax._imtl import imtl
from dbmtl_jax._task_ema import inverse_power_schedule, task_ema
from dbmtl_jax.diagnostics import task_cosine_similarity, task_norms
from dbmtl_jax.gradient_balancing.aligned_mtl import aligned_mtl
from dbmtl_jax.gradient_balancing.cagrad import cagrad
from dbmtl_jax.gradient_balancing.ew import ew, sum_tasks
from dbmtl_jax.gradient_balancing.grad_drop import grad_drop
from dbmtl_jax.gradient_balancing.grad_norm import grad_norm
from dbmtl_jax.gradient_balancing.grad_vac import grad_vac
from dbmtl_jax.gradient_balancing.imtl_g import imtl_g
from dbmtl_jax.gradient_balancing.meta_balance import meta_balance
from dbmtl_jax.gradient_balancing.mgda import mgda
from dbmtl_jax.gradient_balancing.moco import moco
from dbmtl_jax.gradient_balancing.mtadam import scale_by_mtadam
from dbmtl_jax.gradient_balancing.nash_mtl import nash_mtl
from dbmtl_jax.gradient_balancing.pcgrad import pcgrad
from dbmtl_jax.loss_balancing.dwa import dwa, scale_by_dwa
from dbmtl_jax.loss_balancing.gls import gls, scale_by_gls
from dbmtl_jax.loss_balancing.igbv2 import igbv2, scale_by_igbv2
from dbmtl_jax.loss_balancing.imtl_l import imtl_l, scale_by_imtl_l
from dbmtl_jax.loss_balancing.log_loss import scale_by_log_loss
from dbmtl_jax.loss_balancing.rlw import rlw, scale_by_rlw
from dbmtl_jax.loss_balancing.uw import scale_by_uw, uw
from dbmtl_jax.methods import METHODS
from dbmtl_jax.metrics import delta_p

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "aligned_mtl",
    "balance_magnitudes",
    "cagrad",
    "db_mtl",
    "delta_p",
    "dwa",
    "encoder_value_and_task_grads",
    "ew",
    "gls",
    "grad_drop",
    "grad_norm",
    "grad_vac",
    "igbv2",
    "imtl",
    "imtl_g",
    "imtl_l",
    "inverse_power_schedule",
    "meta_balance",
    "mgda",
    "moco",
    "nash_mtl",
    "pcgrad",
    "per_task_value_and_grads",
    "rlw",
    "scale_by_dwa",
    "scale_by_gls",
    "scale_by_igbv2",
    "scale_by_imtl_l",
    "scale_by_log_loss",
    "scale_by_mtadam",
    "scale_by_rlw",
    "scale_by_uw",
    "sum_tasks",
    "task_cosine_similarity",
    "task_ema",
    "task_norms",
    "uw",
    "value_and_task_grads",
]
