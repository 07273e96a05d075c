"""Per-task gradients: the three ways to get a stacked Jacobian [T, *shape] out of a model."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dbmtl_jax import _partition
from dbmtl_jax._pending import PendingTaskGrads, jacobian_of
from dbmtl_jax._pullbacks import own_grads, task_grads, template
from dbmtl_jax._task_map import Mode, check_options, choose, leading_axis, map_tasks


def value_and_task_grads(
    fun: Callable[..., Any],
    *,
    labels: _partition.Labels = None,
    has_aux: bool = False,
    chunk_size: int | None = None,
    mode: Mode = "auto",
    stream: bool = False,
) -> Callable[..., tuple[Any, Any]]:
    r"""Like `jax.value_and_grad`, for a function that returns the losses of T tasks.

    .. math:: J = \left[\nabla_\theta \ell_1, \dots, \nabla_\theta \ell_T\right]

    by one forward pass and T pullbacks of one-hot cotangents, which is
    `jax.vmap(jax.grad)` over the tasks with the forward pass shared.

    Args:
      fun: `fun(params, *args, **kwargs) -> losses`, [T] or a sequence of T scalars; with
        `has_aux`, a pair (losses, aux).
      labels: "shared" or a task index for each parameter: a prefix tree of params or a callable
        of params; None: all are shared.
      has_aux: `fun` returns auxiliary outputs too, such as batch statistics.
      chunk_size: so many tasks at a time (less memory); not with "unroll".
      mode: how the T pullbacks run.  "unroll": one after the other in the program; "loop":
        `jax.lax.map`, smallest program and memory, slow for convolutions on CPUs; "vmap": as a
        batch, for accelerators; "auto": on CPUs "unroll" for up to 8 tasks or convolutions,
        else "loop"; elsewhere "vmap".  The logger `dbmtl_jax` tells (DEBUG) what "auto" chose.
      stream: return pending gradients, which `tx.update` of any method takes in the place of
        stacked ones and computes only as far as it needs them, one task at a time: less memory,
        and for most methods less time.  "auto" then is "unroll" for convolutions on CPUs, else
        "loop".

    Returns:
      `fun(params, *args, **kwargs) -> (losses [T], grads)`, or `((losses, aux), grads)`.  `grads`
      is the tree of params: a shared leaf is [T, *shape], row t = ∇ℓ_t; a leaf of task t is
      [*shape], its gradient of ℓ_t alone.  With `stream` it is one object that stands for that
      tree in the same trace; its `stacked()` computes it.

    Raises:
      ValueError: for a bad option, or if `fun` returns anything but T scalars.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> def fun(w):
      ...   return jnp.sum(w**2), jnp.sum(3 * w)
      >>> losses, grads = dbmtl.value_and_task_grads(fun)(jnp.array([1.0, 2.0]))
      >>> print(losses)
      [5. 9.]
      >>> print(grads)
      [[2. 4.]
       [3. 3.]]
    """
    check_options(mode, chunk_size, stream)

    def value_and_task_grads_fun(params, *args, **kwargs):
        def losses_and_aux(p):
            losses, aux = _with_aux(fun, has_aux)(p, *args, **kwargs)
            return _stack_losses(losses), aux

        losses, pullback, aux = jax.vjp(losses_and_aux, params, has_aux=True)
        num_tasks = losses.shape[0]
        chosen = choose(mode, chunk_size, num_tasks, losses_and_aux, params, stream=stream)
        labels_ = _partition.resolve(labels, params, num_tasks)
        one_hots = jnp.eye(num_tasks, dtype=losses.dtype)
        if stream:
            own = own_grads(
                lambda ct: pullback(ct)[0],
                lambda p: _with_aux(fun, has_aux)(p, *args, **kwargs)[0],
                params,
                labels_,
                one_hots,
            )
            jacobian = jacobian_of(
                lambda p: losses_and_aux(p)[0],
                params,
                lambda ct: pullback(ct)[0],
                one_hots,
                labels_,
                unroll=chosen[0] == "unroll",
            )
            grads = PendingTaskGrads(labels_, template(labels_, params, own, num_tasks), jacobian)
        else:
            grads = task_grads(lambda ct: pullback(ct)[0], one_hots, labels_, chosen)
        return ((losses, aux) if has_aux else losses), grads

    return value_and_task_grads_fun


def encoder_value_and_task_grads(
    encoder: Callable[..., Any],
    heads: Sequence[Callable[..., Any]],
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    mode: Mode = "auto",
    stream: bool = False,
) -> Callable[..., tuple[Any, Any]]:
    r"""Per-task gradients under hard parameter sharing, each head differentiated only once.

    With z = encoder(θ) and ℓ_t = head_t(ψ_t, z), every head gives its own ∇_ψ ℓ_t and the
    cotangent ∂ℓ_t/∂z in one backward pass; only the encoder is pulled back T times:

    .. math:: \nabla_\theta \ell_t = \left(\frac{\partial z}{\partial\theta}\right)^{\!\top}
        \frac{\partial \ell_t}{\partial z}

    Args:
      encoder: `encoder(encoder_params, *args) -> z`, any tree of arrays; with `has_aux`, (z, aux).
      heads: T functions `head(head_params, z, *args) -> loss`, a scalar; with `has_aux`,
        (loss, aux).
      has_aux: the encoder and every head return auxiliary outputs too.
      chunk_size, mode, stream: of the pullbacks through the encoder, as in `value_and_task_grads`.

    Returns:
      `fun((encoder_params, head_params), *args) -> (losses [T], grads)`, head_params being a
      sequence of T trees; or `((losses, (encoder_aux, head_auxes)), grads)`.  `grads` is the tree
      of the parameters: the encoder's leaves are [T, *shape], the heads' [*shape].  The labels
      that go with it are `("shared", tuple(range(T)))`, or a list where head_params is one.

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
    num_tasks = len(heads)
    if num_tasks < 1:
        raise ValueError("heads: expected at least one function, found none")

    def encoder_value_and_task_grads_fun(params, *args):
        encoder_params, head_params = params
        if len(head_params) != num_tasks:
            raise ValueError(
                f"params[1]: expected the parameters of {num_tasks} heads, found {len(head_params)}"
            )

        def encode(p):
            return _with_aux(encoder, has_aux)(p, *args)

        representation, pullback, encoder_aux = jax.vjp(encode, encoder_params, has_aux=True)
        losses, head_aux, head_grads, cotangents = [], [], [], []
        for task, head in enumerate(heads):
            head_fun = jax.value_and_grad(
                _scalar_loss(head, f"heads[{task}]", has_aux), argnums=(0, 1), has_aux=True
            )
            (loss, aux), (head_grad, cotangent) = head_fun(head_params[task], representation, *args)
            losses.append(loss)
            head_aux.append(aux)
            head_grads.append(head_grad)
            cotangents.append(cotangent)

        chosen = choose(mode, chunk_size, num_tasks, encode, encoder_params, stream=stream)
        stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *cotangents)
        shared = _partition.resolve(None, encoder_params, num_tasks)
        # The heads keep the container they came in, so that grads and params are one tree.
        same_container = jax.tree.structure(head_params, is_leaf=lambda x: x is not head_params)
        own = jax.tree.unflatten(same_container, head_grads)
        if stream:
            labels = (
                shared,
                jax.tree.unflatten(
                    same_container,
                    [jax.tree.map(lambda _, t=t: t, grad) for t, grad in enumerate(head_grads)],
                ),
            )
            jacobian = jacobian_of(
                lambda p: encode(p)[0] if has_aux else encode(p),
                encoder_params,
                lambda ct: pullback(ct)[0],
                stacked,
                shared,
                unroll=chosen[0] == "unroll",
            )
            encoder_template = template(shared, encoder_params, encoder_params, num_tasks)
            grads: Any = PendingTaskGrads(labels, (encoder_template, own), jacobian)
        else:
            grads = (task_grads(lambda ct: pullback(ct)[0], stacked, shared, chosen), own)
        values = _stack_losses(losses)
        return ((values, (encoder_aux, head_aux)) if has_aux else values), grads

    return encoder_value_and_task_grads_fun


def per_task_value_and_grads(
    fun: Callable[..., Any] | Sequence[Callable[..., Any]],
    *,
    labels: _partition.Labels = None,
    has_aux: bool = False,
    chunk_size: int | None = None,
    mode: Mode = "auto",
) -> Callable[..., tuple[Any, Any]]:
    """Per-task gradients where every task has a batch of its own.

    `jax.vmap(jax.value_and_grad(fun), in_axes=(None, 0, ...))`, or the same unrolled or looped:
    each task has its own forward pass, so that batch normalisation sees each task apart.

    Args:
      fun: `fun(params, *args) -> loss`, a scalar, called with task t's slice of every argument;
        or T such functions, one per task (they run unrolled).
      labels: "shared" or a task index for each parameter, see `value_and_task_grads`.
      has_aux: `fun` returns (loss, aux).
      chunk_size, mode: how the tasks run, as in `value_and_task_grads`.

    Returns:
      `fun(params, *args) -> (losses [T], grads)`, or `((losses, aux), grads)` with aux stacked
      over the tasks; every array in args is [T, ...].

    Raises:
      ValueError: for a bad option, a loss that is not a scalar, or arguments whose first axes
        differ.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> fun = dbmtl.per_task_value_and_grads(lambda w, x: jnp.sum(w * x))
      >>> losses, grads = fun(jnp.array([1.0, 1.0]), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
      >>> print(losses, grads.shape)
      [3. 7.] (2, 2)
    """
    check_options(mode, chunk_size)
    functions = [fun] if callable(fun) else list(fun)
    differentiated = [
        jax.value_and_grad(_scalar_loss(f, "fun", has_aux), has_aux=True) for f in functions
    ]

    def per_task_value_and_grads_fun(params, *args):
        num_tasks = leading_axis(args)
        if callable(fun):
            one_task = jax.tree.map(lambda x: x[0], args)
            chosen = choose(mode, chunk_size, num_tasks, lambda p: fun(p, *one_task), params)
            (losses, aux), grads = map_tasks(lambda a: differentiated[0](params, *a), args, chosen)
        else:
            if len(functions) != num_tasks:
                raise ValueError(
                    f"fun: expected {num_tasks} functions, one for each slice of the arguments' "
                    f"first axis, found {len(functions)}"
                )
            slices = [jax.tree.map(lambda x, t=t: x[t], args) for t in range(num_tasks)]
            rows = [f(params, *a) for f, a in zip(differentiated, slices, strict=True)]
            (losses, aux), grads = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
        labels_ = _partition.resolve(labels, params, num_tasks)
        own = jax.tree.map(
            lambda label, leaf: leaf if label == _partition.SHARED else leaf[label], labels_, grads
        )
        return ((losses, aux) if has_aux else losses), own

    return per_task_value_and_grads_fun


def _stack_losses(losses: Any) -> jax.Array:
    if isinstance(losses, list | tuple):
        shapes = [jnp.shape(loss) for loss in losses]
        if not losses or any(shape != () for shape in shapes):
            raise ValueError(f"fun: expected a sequence of T scalar losses, found shapes {shapes}")
        return jnp.stack(losses)
    shape = jnp.shape(losses)
    if len(shape) != 1 or shape[0] < 1:
        raise ValueError(f"fun: expected losses of shape (T,) or T scalars, found shape {shape}")
    return losses


def _with_aux(fun: Callable[..., Any], has_aux: bool) -> Callable[..., tuple[Any, Any]]:
    """Gives a function without auxiliary outputs an empty one, so that there is one case."""
    return fun if has_aux else lambda *args, **kwargs: (fun(*args, **kwargs), None)


def _scalar_loss(fun: Callable[..., Any], name: str, has_aux: bool) -> Callable[..., Any]:
    def checked(*args):
        loss, aux = _with_aux(fun, has_aux)(*args)
        if jnp.shape(loss) != ():
            raise ValueError(f"{name}: expected a scalar loss, found shape {jnp.shape(loss)}")
        return loss, aux

    return checked
