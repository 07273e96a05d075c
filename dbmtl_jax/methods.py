"""`METHODS`: every method of the library by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import optax

from dbmtl_jax._db_mtl import db_mtl
from dbmtl_jax._imtl import imtl
from dbmtl_jax.gradient_balancing.aligned_mtl import aligned_mtl
from dbmtl_jax.gradient_balancing.cagrad import cagrad
from dbmtl_jax.gradient_balancing.ew import ew
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
from dbmtl_jax.loss_balancing.dwa import dwa
from dbmtl_jax.loss_balancing.gls import gls
from dbmtl_jax.loss_balancing.igbv2 import igbv2
from dbmtl_jax.loss_balancing.imtl_l import imtl_l
from dbmtl_jax.loss_balancing.rlw import rlw
from dbmtl_jax.loss_balancing.uw import uw

_IN_THE_PAPERS_ORDER = (
    ew,
    gls,
    rlw,
    # loss balancing
    uw,
    dwa,
    imtl_l,
    igbv2,
    # gradient balancing
    mgda,
    grad_norm,
    pcgrad,
    grad_drop,
    grad_vac,
    imtl_g,
    cagrad,
    scale_by_mtadam,
    nash_mtl,
    meta_balance,
    moco,
    aligned_mtl,
    # both
    imtl,
    db_mtl,
)

METHODS: Mapping[str, Callable[..., optax.GradientTransformationExtraArgs]] = MappingProxyType(
    {method.__name__: method for method in _IN_THE_PAPERS_ORDER}
)
"""Name to factory `name(num_tasks, *, ..., labels=None)`, read-only: the methods that merge
stacked task gradients [T, *shape] into updates [*shape]."""
