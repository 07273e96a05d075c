"""Loss balancing: methods that weigh the tasks by their losses alone.

Each factory makes the whole method, [T, *shape] → [*shape].  The factory `scale_by_…` makes the
transformation [T, *shape] → [T, *shape] that only scales the rows by the method's loss weights, to
be chained in front of another method.
"""

from dbmtl_jax.loss_balancing._constant import constant, scale_by_constant
from dbmtl_jax.loss_balancing._dwa import DWAState, dwa, scale_by_dwa
from dbmtl_jax.loss_balancing._famo import FAMOState, famo, scale_by_famo
from dbmtl_jax.loss_balancing._gls import gls, scale_by_gls
from dbmtl_jax.loss_balancing._igbv2 import IGBv2State, igbv2, scale_by_igbv2
from dbmtl_jax.loss_balancing._imtl_l import imtl_l, scale_by_imtl_l
from dbmtl_jax.loss_balancing._log_loss import scale_by_log_loss
from dbmtl_jax.loss_balancing._rlw import rlw, scale_by_rlw
from dbmtl_jax.loss_balancing._stch import STCHState, scale_by_stch, stch
from dbmtl_jax.loss_balancing._uw import scale_by_uw, uw

__all__ = [
    "DWAState",
    "FAMOState",
    "IGBv2State",
    "STCHState",
    "constant",
    "dwa",
    "famo",
    "gls",
    "igbv2",
    "imtl_l",
    "rlw",
    "scale_by_constant",
    "scale_by_dwa",
    "scale_by_famo",
    "scale_by_gls",
    "scale_by_igbv2",
    "scale_by_imtl_l",
    "scale_by_log_loss",
    "scale_by_rlw",
    "scale_by_stch",
    "scale_by_uw",
    "stch",
    "uw",
]
