"""Multi-task optimisation for JAX: DB-MTL and its peers as optax transformations of task gradients.

The subpackages: `engine` computes task gradients, `core` is what methods are made of, and
`loss_balancing`, `gradient_balancing` and `hybrid_balancing` are the methods, and `composition` is
what stands around them.  The docstring of `core` has the contract that all methods keep, and a
glossary.
"""

from dbmtl_jax import (
    composition,
    core,
    engine,
    gradient_balancing,
    hybrid_balancing,
    loss_balancing,
)
from dbmtl_jax._diagnostics import Diagnostics, diagnostics, report_skipped
from dbmtl_jax._task_grad_statistics import task_cosine_similarity, task_norms
from dbmtl_jax.composition import *
from dbmtl_jax.core import *
from dbmtl_jax.engine import *
from dbmtl_jax.gradient_balancing import *
from dbmtl_jax.hybrid_balancing import *
from dbmtl_jax.loss_balancing import *
from dbmtl_jax.methods import METHODS, PROPERTIES, Properties, scale_by_mtadam
from dbmtl_jax.metrics import delta_p

__version__ = "0.2.0"

__all__ = [
    "METHODS",
    "PROPERTIES",
    "Diagnostics",
    "Properties",
    "delta_p",
    "diagnostics",
    "report_skipped",
    "scale_by_mtadam",
    "task_cosine_similarity",
    "task_norms",
]
__all__ += composition.__all__
__all__ += core.__all__
__all__ += engine.__all__
__all__ += gradient_balancing.__all__
__all__ += hybrid_balancing.__all__
__all__ += loss_balancing.__all__
