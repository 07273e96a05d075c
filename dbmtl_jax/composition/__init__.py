"""What stands around methods: checked chains, micro-batches, weights that are kept for a while."""

from dbmtl_jax.composition._chain import Chain, chain
from dbmtl_jax.composition._multi_steps import MultiStepsState, multi_steps
from dbmtl_jax.composition._refresh_weights import RefreshState, refresh_weights
from dbmtl_jax.composition._smooth_weights import SmoothState, smooth_weights
from dbmtl_jax.composition._without_task_args import without_task_args

__all__ = [
    "Chain",
    "MultiStepsState",
    "RefreshState",
    "SmoothState",
    "chain",
    "multi_steps",
    "refresh_weights",
    "smooth_weights",
    "without_task_args",
]
