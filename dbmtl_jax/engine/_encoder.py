"""Task gradients of a shared encoder with one head for each task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import jax

from dbmtl_jax.core import _checks, _labels
from dbmtl_jax.core._names import NumTasks, by_name, check_num_tasks, in_order, named
from dbmtl_jax.core._types import Label, Labels, PyTree
from dbmtl_jax.engine._losses import like_losses, scalar_loss, with_aux
from dbmtl_jax.engine._of_representation import of_representation
from dbmtl_jax.engine._task_map import Mode, check_options
from dbmtl_jax.engine._value_and_task_grads import value_and_task_grads

Wrt = Literal["parameters", "representation"]
"""With regard to what the shared part is differentiated."""


def encoder_value_and_task_grads(
    encoder: Callable[..., PyTree],
    heads: Sequence[Callable[..., PyTree]] | Mapping[str, Callable[..., PyTree]],
    *,
    labels: Labels = None,
    wrt: Wrt = "parameters",
    has_aux: bool = False,
    chunk_size: int | None = None,
    mode: Mode = "auto",
    stream: bool = False,
) -> Callable[..., tuple[PyTree, PyTree]]:
    r"""Per-task gradients under hard parameter sharing, each head differentiated only once.

    With z = encoder(θ) and ℓ_t = head_t(ψ_t, z), one backward pass through head t gives both its
    gradient with regard to ψ_t and the cotangent ∂ℓ_t/∂z.  Only the encoder is pulled back T times:

    .. math:: \nabla_\theta \ell_t = \left(\frac{\partial z}{\partial\theta}\right)^{\!\top}
        \frac{\partial \ell_t}{\partial z}

    Args:
      encoder: `encoder(encoder_params, *args) -> z`, where z is any tree of arrays; with `has_aux`,
        it returns (z, aux).
      heads: T functions `head(head_params, z, *args) -> loss`, a scalar; with `has_aux`, they
        return (loss, aux).  With a mapping of them by name, head_params, losses and auxiliary
        outputs are mappings, too, and the labels are `("shared", {name: name, ...})`.
      labels: which parameters are frozen: a tree of labels of `(encoder_params, head_params)` (see
        `dbmtl_jax.core`) that has "shared" or "frozen" in the encoder, and in head t its task or
        "frozen"; None: none is frozen.
      wrt: "representation" for the gradients ∂ℓ_t/∂z in the place of those of the encoder's
        parameters.  They are pending: methods weigh the tasks by ∂ℓ_t/∂z (as MGDA-UB does), and the
        update is one pullback of the weighted sum, so that a step costs about one backward pass.
        `mode`, `chunk_size` and `stream` then do not matter.
      has_aux: whether the encoder and every head return auxiliary outputs, too.
      chunk_size, mode, stream: how the pullbacks through the encoder run, as in
        `value_and_task_grads`.

    Returns:
      `fun((encoder_params, head_params), *args) -> (losses [T], grads)`, where head_params is a
      sequence of T trees.  With `has_aux` it returns
      `((losses, (encoder_aux, head_auxes)), grads)`.  `grads` is a tree like the parameters: the
      encoder's leaves are [T, *shape], the heads' [*shape].  Methods then need the labels
      `("shared", tuple(range(T)))`, with a list in place of the tuple if head_params is a list.

    Raises:
      ValueError: for a bad option, a number of heads other than that of head_params, a label that
        is none of these, or a loss that is not a scalar.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> encoder = lambda w, x: w * x
      >>> heads = [lambda v, z, x: v * z, lambda v, z, x: (v * z) ** 2]
      >>> fun = dbmtl.encoder_value_and_task_grads(encoder, heads)
      >>> losses, (encoder_grads, head_grads) = fun((2.0, (1.0, 3.0)), 1.0)
      >>> print(losses, encoder_grads, *head_grads)
      [ 2. 36.] [ 1. 36.] 2.0 24.0
    """
    check_options(mode, chunk_size, stream)
    _checks.check_option("wrt", wrt, get_args(Wrt))
    if len(heads) < 1:
        raise ValueError("heads: expected at least one function, found none")
    num_tasks = check_num_tasks(list(heads) if isinstance(heads, Mapping) else len(heads))
    functions: list[Callable[..., Any]] = list(in_order("heads", heads, num_tasks))
    # What an error calls task t.
    keys: Sequence[str | int] = num_tasks.names or range(num_tasks)

    def head_of(task: int) -> Callable[..., Any]:
        return scalar_loss(functions[task], f"heads[{keys[task]!r}]", has_aux)

    def losses_and_aux(params, *args):
        z, encoder_aux = with_aux(encoder, has_aux, "encoder")(params[0], *args)
        of_heads = enumerate(in_order("params[1]", params[1], num_tasks))
        found = [head_of(task)(own, z, *args) for task, own in of_heads]
        losses, head_aux = ([pair[i] for pair in found] for i in (0, 1))
        return by_name(losses, num_tasks), (encoder_aux, by_name(head_aux, num_tasks))

    def encoder_value_and_task_grads_fun(params, *args):
        all_labels = _labels_of(params, num_tasks, labels)
        if wrt == "representation":
            heads_of = [head_of(task) for task in range(num_tasks)]
            values, (encoder_aux, head_aux), grads = of_representation(
                (encoder, heads_of), num_tasks, all_labels, has_aux, params, args
            )
            losses = like_losses(values, num_tasks)
            aux = encoder_aux, by_name(head_aux, num_tasks)
        else:
            whole = value_and_task_grads(
                losses_and_aux,
                labels=jax.tree.map(lambda label: named(label, num_tasks), all_labels),
                has_aux=True,
                chunk_size=chunk_size,
                mode=mode,
                stream=stream,
            )
            (losses, aux), grads = whole(params, *args)
        return ((losses, aux) if has_aux else losses), grads

    return encoder_value_and_task_grads_fun


def encoder_and_heads(name: str, pair: Any, num_tasks: NumTasks) -> tuple[PyTree, list[PyTree]]:
    """The parts of a pair (encoder, heads), the heads in the order of the tasks.

    Raises:
      TypeError: for a mapping where the tasks have no names, or the other way round.
      ValueError: for no such pair, and for another number of heads.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(
            f"{name}: expected a pair (of the encoder, of the heads), found {type(pair).__name__}"
        )
    encoder, heads = pair
    found = in_order(f"{name}[1]", heads, num_tasks)
    if len(found) != num_tasks:
        raise ValueError(f"{name}[1]: expected {num_tasks}, one for each head, found {len(found)}")
    return encoder, list(found)


def _labels_of(params: PyTree, num_tasks: NumTasks, labels: Labels) -> PyTree:
    """The label of every parameter of a pair (encoder_params, head_params).

    Raises:
      ValueError: for no such pair, for another number of heads, and for labels that do not go with
        them.
    """
    encoder, of_heads = encoder_and_heads("params", params, num_tasks)
    heads = params[1]
    # The heads keep the container they came in, so that grads and params are one tree.
    container = jax.tree.structure(heads, is_leaf=lambda x: x is not heads)
    own = [jax.tree.map(lambda _, t=t: t, head) for t, head in enumerate(of_heads)]
    shared = jax.tree.map(lambda _: _labels.SHARED, encoder)
    usual = type(params)((shared, jax.tree.unflatten(container, own)))
    if labels is None:
        return usual
    given = _labels.resolve(labels, params, num_tasks)
    jax.tree_util.tree_map_with_path(_check_label, given, usual)
    return given


def _check_label(path: tuple[Any, ...], found: Label, usual: Label) -> None:
    """Raises ValueError for a label other than the usual one and "frozen"."""
    if found not in (usual, _labels.FROZEN):
        raise ValueError(
            f"labels{jax.tree_util.keystr(path)}: expected {usual!r} or {_labels.FROZEN!r}, "
            f"found {found!r}"
        )
