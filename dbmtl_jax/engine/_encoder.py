"""Task gradients of a shared encoder with one head for each task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks, _labels
from dbmtl_jax.core._frozen import Moving
from dbmtl_jax.core._names import NumTasks, check_num_tasks, in_order
from dbmtl_jax.core._types import Label, Labels, PyTree
from dbmtl_jax.engine._jacobian import Jacobian, row_structs
from dbmtl_jax.engine._jaxpr import contains
from dbmtl_jax.engine._losses import check_differentiable, like_losses, scalar_loss, with_aux
from dbmtl_jax.engine._pending import PendingTaskGrads
from dbmtl_jax.engine._shard_map import axes_of_losses, check_stream, varying_over
from dbmtl_jax.engine._task_map import Mode, check_options, choose

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
    named = isinstance(heads, Mapping)
    num_tasks = check_num_tasks(list(heads) if named else len(heads))
    functions = in_order("heads", heads, num_tasks) if named else list(heads)
    # What an error calls task t.
    keys: Sequence[str | int] = num_tasks.names or range(num_tasks)
    pending = stream or wrt == "representation"

    def encoder_value_and_task_grads_fun(params, *args):
        split = _Split(params, num_tasks, labels)
        check_differentiable(split.moving)

        def encode(p):
            return with_aux(encoder, has_aux)(split.encoder.whole(p), *args)

        def head_of(task):
            checked = scalar_loss(functions[task], f"heads[{keys[task]!r}]", has_aux)
            return lambda p, z: checked(split.heads[task].whole(p), z, *args)

        tasks = range(num_tasks)

        def losses_of(moving):
            z, _ = encode(moving[0])
            return [head_of(task)(moving[1][task], z)[0] for task in tasks]

        axes = axes_of_losses(losses_of, split.moving)
        check_stream(axes, pending)
        shared, own_params = varying_over(axes, split.moving)
        z, push, encoder_aux = jax.linearize(encode, shared, has_aux=True)

        def pulled_back(task):
            of_head = jax.value_and_grad(head_of(task), argnums=(0, 1), has_aux=True)
            return of_head(own_params[task], z)

        losses, head_aux, head_grads, cotangents = [], [], [], []
        for task in tasks:
            (loss, aux), (head_grad, cotangent) = pulled_back(task)
            losses.append(loss)
            head_aux.append(aux)
            head_grads.append(head_grad)
            cotangents.append(jax.tree.leaves(cotangent))

        structure = jax.tree.structure(shared)
        linear = jax.make_jaxpr(push)(shared)
        pullback = jax.linear_transpose(push, shared)

        def pull(cotangent):
            whole = jax.tree.unflatten(jax.tree.structure(z), cotangent)
            return jax.tree.leaves(pullback(whole)[0])

        chosen = choose(
            mode, chunk_size, num_tasks, lambda name: contains(linear.jaxpr, name), stream=pending
        )
        jacobian = Jacobian(
            num_tasks,
            lambda task, one: [one * c for c in jax.tree.leaves(pulled_back(task)[1][1])],
            pull,
            lambda row: jax.tree.leaves(push(jax.tree.unflatten(structure, row))),
            chosen[0] == "unroll",
            cotangents,
            list(map(jnp.asarray, jax.tree.leaves(shared))),
        )
        every = _labels.resolve(None, shared, num_tasks)
        rows = row_structs(every, shared, num_tasks) if pending else jacobian.stacked(chosen)
        grads = split.joined(jax.tree.unflatten(structure, rows), head_grads)
        if pending:
            of_z = wrt == "representation"
            grads = PendingTaskGrads(split.labels, grads, jacobian, of_representation=of_z)
        values = like_losses(losses, num_tasks)
        head_auxes = dict(zip(keys, head_aux, strict=True)) if named else head_aux
        return ((values, (encoder_aux, head_auxes)) if has_aux else values), grads

    return encoder_value_and_task_grads_fun


class _Split:
    """The parameters of an encoder and of T heads, without those that are frozen.

    Args:
      params: `(encoder_params, head_params)`.
      num_tasks: T.
      labels: as for `encoder_value_and_task_grads`.

    Raises:
      ValueError: for another number of heads, and for labels that do not go with them.
    """

    def __init__(self, params: PyTree, num_tasks: NumTasks, labels: Labels) -> None:
        if not isinstance(params, tuple | list) or len(params) != 2:
            raise ValueError(
                "params: expected a pair (encoder_params, head_params), found "
                f"{type(params).__name__}"
            )
        encoder, heads = params
        of_heads = in_order("params[1]", heads, num_tasks)
        if len(of_heads) != num_tasks:
            raise ValueError(
                f"params[1]: expected the parameters of {num_tasks} heads, found {len(of_heads)}"
            )
        # The heads keep the container they came in, so that grads and params are one tree.
        self._container = jax.tree.structure(heads, is_leaf=lambda x: x is not heads)
        roles = [_labels.SHARED, *range(num_tasks)]
        usual = [
            jax.tree.map(lambda _, role=role: role, tree)
            for role, tree in zip(roles, (encoder, *of_heads), strict=True)
        ]
        self.labels = self._tree(usual[0], usual[1:])
        if labels is not None:
            given = _labels.resolve(labels, (encoder, heads), num_tasks)
            jax.tree_util.tree_map_with_path(_check_label, given, self.labels)
            self.labels = given
        self.encoder = Moving(self.labels[0], encoder)
        of_head_labels = _children(self.labels[1])
        self.heads = [Moving(*pair) for pair in zip(of_head_labels, of_heads, strict=True)]
        self.moving = self.encoder.params, [head.params for head in self.heads]

    def joined(self, encoder: PyTree, heads: Sequence[PyTree]) -> PyTree:
        """Gradients of all parameters, given those of the ones that are not frozen."""
        whole = [head.with_zeros(grad) for head, grad in zip(self.heads, heads, strict=True)]
        return self._tree(self.encoder.with_zeros(encoder), whole)

    def _tree(self, encoder: PyTree, heads: Sequence[PyTree]) -> PyTree:
        return encoder, jax.tree.unflatten(self._container, heads)


def _children(node: PyTree) -> list[PyTree]:
    return jax.tree.leaves(node, is_leaf=lambda x: x is not node)


def _check_label(path: tuple[Any, ...], found: Label, usual: Label) -> None:
    """Raises ValueError for a label other than the usual one and "frozen"."""
    if found not in (usual, _labels.FROZEN):
        raise ValueError(
            f"labels{jax.tree_util.keystr(path)}: expected {usual!r} or {_labels.FROZEN!r}, "
            f"found {found!r}"
        )
