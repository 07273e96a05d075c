"""What methods are composed of: parts, and an aggregator at the end."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Mask, Memory, PerTask, PyTree

Reads = Literal["sum", "norms", "gramian", "rows"]
"""What a method reads of the gradients.  Each includes those before it."""

READS: tuple[Reads, ...] = get_args(Reads)


class Part(NamedTuple):
    """A step of a method that maps tasks to tasks: it scales or averages their gradients.

    `init(shared) -> state` sees the tree of shared parameters, `update(tasks, state) -> (tasks,
    state)` the tasks.  `settle(state, present) -> state` corrects what it noted of tasks that
    were found absent later in the step.
    """

    init: Callable[[PyTree], Memory]
    update: Callable[[Tasks, Memory], tuple[Tasks, Memory]]
    reads: Reads = "sum"
    averages: bool = False  # whether it sees every row, and leaves averages in their place
    settle: Callable[[Memory, Mask], Memory] = lambda state, present: state


class Merged(NamedTuple):
    """What an aggregator makes of the tasks."""

    updates: PyTree  # leaves [*shape] for the shared parameters
    memory: Memory
    weights: PerTask | None = None  # w of Σ_t w_t g_t, if the update is such a sum
    own_weights: PerTask | None = None  # of own parameters; None leaves them alone


class Aggregator(NamedTuple):
    """The end of a method: it merges the tasks' gradients.

    What it `reads` of the rows is formed in the pass over them that checks these, and of gradients
    that are not computed yet nothing else is computed.
    """

    init: Callable[[PyTree], Memory]
    update: Callable[[Tasks, Memory], Merged]
    reads: Reads = "rows"
    weighs: bool = False  # whether the updates are a weighted sum
