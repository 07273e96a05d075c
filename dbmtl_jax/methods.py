"""`METHODS`: every method of the library by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import optax

from dbmtl_jax._db_mtl import db_mtl
from dbmtl_jax.gradient_balancing.equal_weighting import ew
from dbmtl_jax.loss_balancing.dynamic_average import dwa
from dbmtl_jax.loss_balancing.geometric import gls
from dbmtl_jax.loss_balancing.impartial import imtl_l
from dbmtl_jax.loss_balancing.improvable_gap import igbv2
from dbmtl_jax.loss_balancing.random import rlw
from dbmtl_jax.loss_balancing.uncertainty import uw

METHODS: Mapping[str, Callable[..., optax.GradientTransformationExtraArgs]] = MappingProxyType(
    {method.__name__: method for method in (ew, gls, rlw, uw, dwa, imtl_l, igbv2, db_mtl)}
)
"""Name to factory `name(num_tasks, *, ..., labels=None)`, read-only: the methods that merge
stacked task gradients [T, *shape] into updates [*shape]."""
