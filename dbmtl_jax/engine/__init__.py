"""The engine: three functions that compute the task gradients of a model."""

from dbmtl_jax.engine._encoder import encoder_value_and_task_grads
from dbmtl_jax.engine._pending import PendingTaskGrads
from dbmtl_jax.engine._per_task import per_task_value_and_grads
from dbmtl_jax.engine._value_and_task_grads import value_and_task_grads

__all__ = [
    "PendingTaskGrads",
    "encoder_value_and_task_grads",
    "per_task_value_and_grads",
    "value_and_task_grads",
]
