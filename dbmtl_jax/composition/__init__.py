"""What stands around methods: chains that are checked, and accumulation over micro-batches."""

from dbmtl_jax.composition._chain import Chain, chain
from dbmtl_jax.composition._multi_steps import MultiStepsState, multi_steps
from dbmtl_jax.composition._without_task_args import without_task_args

__all__ = ["Chain", "MultiStepsState", "chain", "multi_steps", "without_task_args"]
