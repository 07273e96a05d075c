"""What all vision networks have in common: a shared encoder and one head per task.

Every network has two children. All of `encoder` is shared, and `heads[t]` is all that task t has
of its own; `network(images)` returns the T outputs. So the parameters of each are a pair
(encoder, [head_0, …, head_{T-1}]), with the labels that `dbmtl_jax` takes. A single-task model is
the network of one task.

Where the encoder's output is all that the heads see, `heads[t](encoder(images), …)` is the output
of task t, and `dbmtl_jax.encoder_value_and_task_grads` applies; the networks say whether it is so.
"""

from typing import Any

from benchmarks.models.functional import Arrays

TaskTrees = tuple[Arrays, list[Arrays]]
"""Parameters or batch statistics: the encoder's, and those of every head."""


def split_tasks(tree: Arrays, num_tasks: int) -> TaskTrees:
    """A network's functional tree as a pair (encoder, heads).

    A head without arrays of this kind, such as one without batch statistics, is an empty dict.

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
    """The labels of a pair (encoder, heads), a prefix tree for `dbmtl_jax`."""
    return "shared", list(range(num_tasks))


def check_counts(name: str, values: Any) -> tuple[int, ...]:
    """`values` as a tuple, if they are one or more positive integers.

    Raises:
      ValueError: otherwise, naming the argument.
    """
    values = tuple(values)
    if not values or min(values) < 1:
        raise ValueError(f"{name}: expected one or more positive integers, found {values}")
    return values
