"""Task gradients of a shared encoder with one head for each task."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._names import check_num_tasks, in_order
from dbmtl_jax.core._types import PyTree
from dbmtl_jax.engine._jacobian import Jacobian, row_structs
from dbmtl_jax.engine._jaxpr import contains
from dbmtl_jax.engine._losses import check_differentiable, like_losses, scalar_loss, with_aux
from dbmtl_jax.engine._pending import PendingTaskGrads
from dbmtl_jax.engine._shard_map import axes_of_losses, check_stream, varying_over
from dbmtl_jax.engine._task_map import Mode, check_options, choose


def encoder_value_and_task_grads(
    encoder: Callable[..., PyTree],
    heads: Sequence[Callable[..., PyTree]] | Mapping[str, Callable[..., PyTree]],
    *,
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
      ValueError: for a bad option, a number of heads other than that of head_params, or a loss
        that is not a scalar.

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
    if len(heads) < 1:
        raise ValueError("heads: expected at least one function, found none")
    named = isinstance(heads, Mapping)
    num_tasks = check_num_tasks(list(heads) if named else len(heads))
    functions = in_order("heads", heads, num_tasks) if named else list(heads)
    # What an error calls task t.
    keys: Sequence[str | int] = num_tasks.names or range(num_tasks)

    def encoder_value_and_task_grads_fun(params, *args):
        encoder_params, head_params = params
        of_heads = in_order("params[1]", head_params, num_tasks)
        if len(of_heads) != num_tasks:
            raise ValueError(
                f"params[1]: expected the parameters of {num_tasks} heads, found {len(of_heads)}"
            )

        check_differentiable(params)

        def encode(p):
            return with_aux(encoder, has_aux)(p, *args)

        def losses_of(both):
            z, _ = encode(both[0])
            each = zip(keys, functions, in_order("params[1]", both[1], num_tasks), strict=True)
            return [
                scalar_loss(head, f"heads[{key!r}]", has_aux)(own, z, *args)[0]
                for key, head, own in each
            ]

        axes = axes_of_losses(losses_of, params)
        check_stream(axes, stream)
        encoder_params, head_params = varying_over(axes, params)
        of_heads = in_order("params[1]", head_params, num_tasks)

        representation, push, encoder_aux = jax.linearize(encode, encoder_params, has_aux=True)
        losses, head_aux, head_grads, cotangents = [], [], [], []
        for key, head, own in zip(keys, functions, of_heads, strict=True):
            head_fun = jax.value_and_grad(
                scalar_loss(head, f"heads[{key!r}]", has_aux), argnums=(0, 1), has_aux=True
            )
            (loss, aux), (head_grad, cotangent) = head_fun(own, representation, *args)
            losses.append(loss)
            head_aux.append(aux)
            head_grads.append(head_grad)
            cotangents.append(jax.tree.leaves(cotangent))

        structure = jax.tree.structure(encoder_params)
        linear = jax.make_jaxpr(push)(encoder_params)
        pullback = jax.linear_transpose(push, encoder_params)

        def pull(ct):
            whole = jax.tree.unflatten(jax.tree.structure(representation), ct)
            return jax.tree.leaves(pullback(whole)[0])

        chosen = choose(
            mode, chunk_size, num_tasks, lambda name: contains(linear.jaxpr, name), stream=stream
        )
        jacobian = Jacobian(
            num_tasks,
            lambda task, _: cotangents[task],
            pull,
            lambda row: jax.tree.leaves(push(jax.tree.unflatten(structure, row))),
            chosen[0] == "unroll",
            cotangents,
            list(map(jnp.asarray, jax.tree.leaves(encoder_params))),
        )
        # The heads keep the container they came in, so that grads and params are one tree.
        same_container = jax.tree.structure(head_params, is_leaf=lambda x: x is not head_params)
        own = jax.tree.unflatten(same_container, head_grads)
        shared = _labels.resolve(None, encoder_params, num_tasks)
        if stream:
            labels = (
                shared,
                jax.tree.unflatten(
                    same_container,
                    [jax.tree.map(lambda _, t=t: t, grad) for t, grad in enumerate(head_grads)],
                ),
            )
            rows = row_structs(shared, encoder_params, num_tasks)
            template = (jax.tree.unflatten(structure, rows), own)
            grads: PyTree = PendingTaskGrads(labels, template, jacobian)
        else:
            grads = (jax.tree.unflatten(structure, jacobian.stacked(chosen)), own)
        values = like_losses(losses, num_tasks)
        head_auxes = dict(zip(keys, head_aux, strict=True)) if named else head_aux
        return ((values, (encoder_aux, head_auxes)) if has_aux else values), grads

    return encoder_value_and_task_grads_fun
