"""The common structure of all vision networks: a shared encoder and one head per task.

Every network has two submodules: `encoder` contains all shared parameters, and `heads[t]` those of
task t. `network(images)` returns the T outputs. The parameters are thus a pair
(encoder, [head_0, …, head_{T-1}]), with `labels` for `dbmtl_jax`. A single-task model is a network
with one task.

If the heads only use the output of the encoder, the output of task t is
`heads[t](encoder(images), …)`, and `dbmtl_jax.encoder_value_and_task_grads` can be used; the
docstring of each network says so.
"""

from typing import Any

from benchmarks.networks.functional import Arrays

TaskTrees = tuple[Arrays, list[Arrays]]
"""Parameters or batch statistics of the encoder, and of every head."""


def split_tasks(tree: Arrays, num_tasks: int) -> TaskTrees:
    """Splits the functional tree of a network into a pair (encoder, heads).

    A head without arrays, such as one without batch statistics, is an empty dict.

    Raises:
      ValueError: if the tree is not that of a network with `num_tasks` heads.
    """
    heads = tree.get("heads", {})
    unknown = sorted(tree.keys() - {"encoder", "heads"})
    tasks = [str(task) for task in range(num_tasks)]
    others = sorted(heads.keys() - set(tasks))
    if unknown or others or (heads and len(heads) < num_tasks):
        raise ValueError(
            f"tree: expected 'encoder' and {num_tasks} 'heads', found {sorted(tree)} with heads "
            f"{sorted(heads)}"
        )
    return tree.get("encoder", {}), [heads.get(task, {}) for task in tasks]


def join_tasks(trees: TaskTrees) -> Arrays:
    """The inverse of `split_tasks`."""
    encoder, heads = trees
    return {"encoder": encoder, "heads": {str(task): head for task, head in enumerate(heads)}}


def labels(num_tasks: int) -> Any:
    """The labels of a pair (encoder, heads) for `dbmtl_jax`, as a prefix tree."""
    return "shared", list(range(num_tasks))


def check_counts(name: str, values: Any) -> tuple[int, ...]:
    """Returns `values` as a tuple if they are one or more positive integers.

    Raises:
      ValueError: otherwise; the message names the argument.
    """
    values = tuple(values)
    if not values or min(values) < 1:
        raise ValueError(f"{name}: expected one or more positive integers, found {values}")
    return values
