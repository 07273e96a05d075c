"""Methods by name: stl, the methods of `dbmtl_jax.METHODS`, chains of methods, and options.

A name has the form `[BALANCER+…]METHOD[@OPTION=VALUE,…]`. For example, `log+pcgrad` applies PCGrad
to the logarithms of the losses, and `cagrad@c=0.4` sets the argument `c` of the factory of CAGrad.
The forgetting rate of DB-MTL in step k is beta / k^sigma, where sigma is 0 if only beta is given;
`db_mtl` alone means `db_mtl@beta=0.9,sigma=0.5`.

Three options of any method make it cheaper: `wrt=representation` (it reads the gradients of the
representation), `measured=last` (those of the last shared layer) and `refresh=K` (its weights are
computed anew in every K-th step).
"""

from benchmarks.methods.build import Gradients, build, check, gradients_of
from benchmarks.methods.lists import (
    BASELINE,
    BEYOND,
    DISPLAY_NAMES,
    LISTS,
    LOSS_BALANCERS,
    OF_TWO_BATCHES,
    ONE_BACKWARD_PASS,
    PAPER,
    REPLACES_ADAM,
    VARIANTS,
)
from benchmarks.methods.names import (
    DB_MTL_DEFAULTS,
    Form,
    Spec,
    current_name,
    display_name,
    for_network,
    order,
    parse,
    recorded_names,
    row_name,
    spelt_out,
)

__all__ = [
    "BASELINE",
    "BEYOND",
    "DB_MTL_DEFAULTS",
    "DISPLAY_NAMES",
    "LISTS",
    "LOSS_BALANCERS",
    "OF_TWO_BATCHES",
    "ONE_BACKWARD_PASS",
    "PAPER",
    "REPLACES_ADAM",
    "VARIANTS",
    "Form",
    "Gradients",
    "Spec",
    "build",
    "check",
    "current_name",
    "display_name",
    "for_network",
    "gradients_of",
    "order",
    "parse",
    "recorded_names",
    "row_name",
    "spelt_out",
]
