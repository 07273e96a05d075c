"""Asserts about methods, for this project's tests and for yours.

A *factory* is a function `num_tasks -> optax transformation`: a method's own factory, a
`functools.partial` with options, or a `lambda` that makes a chain.  Pass the same object to all
asserts, so that its program is compiled only once::

    from dbmtl_jax import testing

    testing.assert_contract(my_method)
    testing.assert_non_conflicting(my_method)

Needs chex (`pip install "dbmtl_jax[testing]"`).
"""

from dbmtl_jax.testing._contract import CONTRACT, assert_contract
from dbmtl_jax.testing._properties import (
    FirstUpdate,
    Options,
    assert_equal_projections,
    assert_homogeneous,
    assert_linear_under_scaling,
    assert_non_conflicting,
    assert_permutation_equivariant,
    assert_scale_invariant,
    first_update,
)
from dbmtl_jax.testing._samplers import (
    SHAPES,
    hard_gradients,
    sample_losses,
    sample_params,
    sample_task_grads,
)

__all__ = [
    "CONTRACT",
    "SHAPES",
    "FirstUpdate",
    "Options",
    "assert_contract",
    "assert_equal_projections",
    "assert_homogeneous",
    "assert_linear_under_scaling",
    "assert_non_conflicting",
    "assert_permutation_equivariant",
    "assert_scale_invariant",
    "first_update",
    "hard_gradients",
    "sample_losses",
    "sample_params",
    "sample_task_grads",
]
