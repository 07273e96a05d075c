"""What methods are composed of: parts, and an aggregator at the end."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Mask, Memory, PerTask, PyTree

Reads = Literal["sum", "norms", "gramian", "rows"]
"""What a method reads of the gradients.  Each value includes those before it."""

READS: tuple[Reads, ...] = get_args(Reads)


class Part(NamedTuple):
    """A stage of a method that maps tasks to tasks: it scales or averages their gradients.

    `init(shared) -> state` gets the tree of shared parameters, `update(tasks, state) -> (tasks,
    state)` the tasks.  `settle(state, present) -> state` corrects what the state says about tasks
    that were found absent later in the step.
    """

    init: Callable[[PyTree], Memory]
    update: Callable[[Tasks, Memory], tuple[Tasks, Memory]]
    reads: Reads = "sum"
    averages: bool = False  # whether it reads every row and replaces it by an average
    settle: Callable[[Memory, Mask], Memory] = lambda state, present: state


class Merged(NamedTuple):
    """What an aggregator returns."""

    updates: PyTree  # leaves [*shape] for the shared parameters
    memory: Memory
    weights: PerTask | None = None  # w in Σ_t w_t g_t; None if the update is no such sum
    own_weights: PerTask | None = None  # factors of own parameters' gradients; None: 1
    present: Mask | None = None  # the tasks that took part, if it left some out
    checked: bool = False  # whether it made sure that the updates are finite
    norms: PerTask | None = None  # those that the weights come from, if not the tasks'


class Weighed(NamedTuple):
    """What an aggregator whose update is a weighted sum says before it sums."""

    weights: PerTask
    memory: Memory
    # weights -> the factors of own parameters' gradients; None: 1
    own_weights: Callable[[PerTask], PerTask] | None
    present: Mask  # the tasks that take part


class Aggregator(NamedTuple):
    """The last stage of a method: it merges the tasks' gradients.

    What it `reads` of the rows is computed in the pass that checks whether they are finite.  Of
    pending gradients nothing else is computed.
    """

    init: Callable[[PyTree], Memory]
    update: Callable[[Tasks, Memory], Merged]
    reads: Reads = "rows"
    # What the update is a weighted sum with; None if it is none.
    weigh: Callable[[Tasks, Memory], Weighed] | None = None
    of_parameters: bool = False  # whether it refuses gradients of a representation
