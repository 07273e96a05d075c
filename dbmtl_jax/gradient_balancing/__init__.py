"""Gradient balancing: methods that merge the tasks' gradients into one update."""

from dbmtl_jax.gradient_balancing._aligned_mtl import aligned_mtl, aligned_mtl_weights
from dbmtl_jax.gradient_balancing._balance_magnitudes import balance_magnitudes
from dbmtl_jax.gradient_balancing._cagrad import cagrad, cagrad_weights
from dbmtl_jax.gradient_balancing._con_fig import con_fig, con_fig_weights
from dbmtl_jax.gradient_balancing._dual_proj import dual_proj, dual_proj_weights
from dbmtl_jax.gradient_balancing._ew import ew, sum_tasks
from dbmtl_jax.gradient_balancing._excess_mtl import ExcessMTLState, excess_mtl
from dbmtl_jax.gradient_balancing._fair_grad import fair_grad, fair_grad_weights
from dbmtl_jax.gradient_balancing._grad_drop import grad_drop
from dbmtl_jax.gradient_balancing._grad_norm import GradNormState, grad_norm
from dbmtl_jax.gradient_balancing._grad_vac import GradVacState, grad_vac, grad_vac_weights
from dbmtl_jax.gradient_balancing._imtl_g import imtl_g, imtl_g_weights
from dbmtl_jax.gradient_balancing._meta_balance import meta_balance
from dbmtl_jax.gradient_balancing._mgda import mgda, mgda_weights
from dbmtl_jax.gradient_balancing._moco import MoCoState, moco
from dbmtl_jax.gradient_balancing._modo import modo
from dbmtl_jax.gradient_balancing._mtadam import MTAdamState, mtadam
from dbmtl_jax.gradient_balancing._nash_mtl import NashMTLState, nash_mtl, nash_mtl_weights
from dbmtl_jax.gradient_balancing._normalize_rows import clip_rows, normalize_rows
from dbmtl_jax.gradient_balancing._pcd import PCDState, pcd
from dbmtl_jax.gradient_balancing._pcgrad import pcgrad, pcgrad_weights
from dbmtl_jax.gradient_balancing._sdmgrad import sdmgrad, sdmgrad_weights
from dbmtl_jax.gradient_balancing._upgrad import upgrad, upgrad_weights

__all__ = [
    "ExcessMTLState",
    "GradNormState",
    "GradVacState",
    "MTAdamState",
    "MoCoState",
    "NashMTLState",
    "PCDState",
    "aligned_mtl",
    "aligned_mtl_weights",
    "balance_magnitudes",
    "cagrad",
    "cagrad_weights",
    "clip_rows",
    "con_fig",
    "con_fig_weights",
    "dual_proj",
    "dual_proj_weights",
    "ew",
    "excess_mtl",
    "fair_grad",
    "fair_grad_weights",
    "grad_drop",
    "grad_norm",
    "grad_vac",
    "grad_vac_weights",
    "imtl_g",
    "imtl_g_weights",
    "meta_balance",
    "mgda",
    "mgda_weights",
    "moco",
    "modo",
    "mtadam",
    "nash_mtl",
    "nash_mtl_weights",
    "normalize_rows",
    "pcd",
    "pcgrad",
    "pcgrad_weights",
    "sdmgrad",
    "sdmgrad_weights",
    "sum_tasks",
    "upgrad",
    "upgrad_weights",
]
