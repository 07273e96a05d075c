"""The types that pass between the subpackages of the library.

Shapes are written as jaxtyping annotations, `Float[Array, "T T"]`.  jaxtyping is not a dependency:
a program that has not imported it sees the plain class `jax.Array`.  The tests import it first
and have beartype check every call.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np
from jax.typing import DTypeLike

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Shaped
elif "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Int, Shaped

    Array = jax.Array | np.ndarray  # JAX takes both
else:
    Array = jax.Array

    class Float:
        """Stands for jaxtyping's class of this name: `Float[Array, "T"]` is `Array`."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Bool = Int = Shaped = Float

PerTask: TypeAlias = Float[Array, " T"]
"""A number for each task."""

Mask: TypeAlias = Bool[Array, " T"]
"""A bool for each task."""

PyTree: TypeAlias = Any
"""A tree of arrays: parameters [*shape], or task gradients, whose shared leaves are [T, *shape]."""

Label: TypeAlias = str | int
"""The label of a parameter: "shared" or a task index."""

Labels: TypeAlias = PyTree | Callable[[PyTree], PyTree] | None
"""Which parameters are shared and which belong to one task; see `dbmtl_jax.core`."""

Measured: TypeAlias = PyTree | Callable[[PyTree], PyTree] | None
"""Of which shared parameters norms and inner products are read; see `dbmtl_jax.core`."""

Memory: TypeAlias = Any
"""What a method keeps between steps: a tree of arrays, `()` if it keeps nothing."""

Scalar: TypeAlias = float | Array
"""A number; `optax.inject_hyperparams` passes traced ones."""

Count: TypeAlias = int | np.integer | Int[Array, ""]
"""A number of steps, which may be traced, too."""

ScalarOrSchedule: TypeAlias = Scalar | Callable[[Array], Array]
"""A number, or an optax schedule: a function of the step count, an int array []."""

TaskCount: TypeAlias = int | Sequence[str]
"""T, or the names of the tasks."""

Seed: TypeAlias = int | np.integer | Array
"""An int or a key, as `optax.add_noise` takes it."""

__all__ = [
    "Array",
    "Bool",
    "Count",
    "DTypeLike",
    "Float",
    "Int",
    "Label",
    "Labels",
    "Mask",
    "Measured",
    "Memory",
    "PerTask",
    "PyTree",
    "Scalar",
    "ScalarOrSchedule",
    "Seed",
    "Shaped",
    "TaskCount",
]
