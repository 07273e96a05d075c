"""Lists of methods, and their names in tables and figures."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import dbmtl_jax as dbmtl

BASELINE = "stl"
PAPER: Mapping[str, str] = MappingProxyType(
    {
        "stl": "STL",
        "ew": "EW",
        "gls": "GLS",
        "rlw": "RLW",
        "uw": "UW",
        "dwa": "DWA",
        "imtl_l": "IMTL-L",
        "igbv2": "IGBv2",
        "mgda": "MGDA",
        "grad_norm": "GradNorm",
        "pcgrad": "PCGrad",
        "grad_drop": "GradDrop",
        "grad_vac": "GradVac",
        "imtl_g": "IMTL-G",
        "cagrad": "CAGrad",
        "mtadam": "MTAdam",
        "nash_mtl": "Nash-MTL",
        "meta_balance": "MetaBalance",
        "moco": "MoCo",
        "aligned_mtl": "Aligned-MTL",
        "imtl": "IMTL",
        "db_mtl": "DB-MTL",
    }
)
"""The methods that the paper compares, in the order of its tables, and their names there."""

VARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "moco": "moco@normalize=true,projection=softmax",
        "grad_drop": "grad_drop@wrt=representation",
    }
)
"""How LibMTL, which the paper's rows are of, has methods that have options: MoCo averages gradients
of unit length times the loss, and has a softmax in the place of the projection; GradDrop chooses
among the gradients of the representation."""

BEYOND: Mapping[str, str] = MappingProxyType(
    {
        "upgrad": "UPGrad",
        "dual_proj": "DualProj",
        "con_fig": "ConFIG",
        "fair_grad": "FairGrad",
        "sdmgrad": "SDMGrad",
        "pcd": "PCD",
        "modo": "MoDo",
        "excess_mtl": "ExcessMTL",
        "famo": "FAMO",
        "stch": "STCH",
    }
)
"""Methods that the paper does not compare, and their names in their own papers."""

DISPLAY_NAMES: Mapping[str, str] = MappingProxyType(
    {**PAPER, **BEYOND, "constant": "constant weights"}
)
"""What tables and figures call the methods."""

LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"all": tuple(PAPER), "beyond": tuple(BEYOND)}
)
"""Names on the command line that stand for several methods."""

LOSS_BALANCERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "log": dbmtl.scale_by_log_loss,
        "gls": dbmtl.scale_by_gls,
        "rlw": dbmtl.scale_by_rlw,
        "uw": dbmtl.scale_by_uw,
        "dwa": dbmtl.scale_by_dwa,
        "imtl_l": dbmtl.scale_by_imtl_l,
        "igbv2": dbmtl.scale_by_igbv2,
        "famo": dbmtl.scale_by_famo,
        "stch": dbmtl.scale_by_stch,
    }
)
"""The loss balancers that can precede a method in a chain, by name."""

FORMER_NAMES: Mapping[str, str] = MappingProxyType({"scale_by_mtadam": "mtadam"})
"""Names under which older runs were recorded."""

REPLACES_ADAM = frozenset({"mtadam"})
"""Methods that are optimizers themselves, so that no Adam follows them."""

ONE_BACKWARD_PASS = frozenset(
    name for name, promises in dbmtl.PROPERTIES.items() if promises.passes == "1"
)
"""Methods that use only the losses: one backward pass of a weighted sum is sufficient for them."""

OF_OWN_RATE = frozenset({dbmtl.famo, dbmtl.scale_by_famo})
"""Factories whose weights do not learn at the model's learning rate."""

OF_TWO_BATCHES = frozenset({"modo"})
"""Methods that compare the gradients of two independent batches, the halves of a step's batch."""
