"""The engine for Flax NNX models: `from dbmtl_jax import nnx as mtl`.

As in `flax.nnx.value_and_grad`, argument 0 is the model, gradients are those of its parameters, and
all other state (the statistics of batch normalisation, the counters of random numbers) is updated
once a step.  The gradients go into `flax.nnx.Optimizer.update(model, grads, losses=losses)`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack, get_args

import jax
import jax.numpy as jnp

from dbmtl_jax import engine
from dbmtl_jax.core import _checks, _labels
from dbmtl_jax.core._names import by_name, check_num_tasks, in_order, named
from dbmtl_jax.core._types import Labels, PyTree
from dbmtl_jax.engine import PendingTaskGrads
from dbmtl_jax.engine._encoder import Wrt, encoder_and_heads
from dbmtl_jax.engine._losses import with_aux
from dbmtl_jax.engine._task_arguments import Axes
from dbmtl_jax.engine._task_map import Schedule

try:
    from flax import nnx
except ImportError as error:
    raise ImportError(
        "dbmtl_jax.nnx needs flax, which is not installed: pip install flax"
    ) from error

__all__ = [
    "encoder_value_and_task_grads",
    "per_task_value_and_grads",
    "value_and_task_grads",
]


def value_and_task_grads(
    fun: Callable[..., PyTree],
    *,
    wrt: Any = nnx.Param,
    labels: Labels = None,
    has_aux: bool = False,
    **schedule: Unpack[Schedule],
) -> Callable[..., tuple[PyTree, PyTree]]:
    """`dbmtl_jax.value_and_task_grads` of a function whose first argument is an NNX model.

    Args:
      fun: `fun(model, *args, **kwargs) -> losses`, or (losses, aux) with `has_aux`.
      wrt: which variables of the model are parameters, a filter as for `nnx.Optimizer`.
      labels: for the state of the parameters, `nnx.state(model, wrt)`: a nested dict with its keys,
        or a function of it such as `dbmtl_jax.labels_by_path` makes; see `dbmtl_jax.core`.
      has_aux: whether `fun` returns (losses, aux).
      schedule: `chunk_size`, `mode` and `stream`, as for `dbmtl_jax.value_and_task_grads`.

    Returns:
      `fun(model, *args, **kwargs) -> (losses, grads)`, or `((losses, aux), grads)`, where grads is
      a state like `nnx.state(model, wrt)` with leaves [T, *shape].  With `stream` its leaves stand
      for gradients that are not computed yet.  The other state of the model is updated in place.

    Raises:
      ValueError, TypeError: as `dbmtl_jax.value_and_task_grads`.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> from dbmtl_jax import nnx as mtl
      >>> from flax import nnx
      >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
      >>> tx = dbmtl.chain(dbmtl.db_mtl(2), optax.adam(1e-2))
      >>> optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
      >>> fun = mtl.value_and_task_grads(lambda model, x: jnp.mean(model(x) ** 2, axis=0))
      >>> @nnx.jit
      ... def step(model, optimizer, x):
      ...   losses, grads = fun(model, x)
      ...   optimizer.update(model, grads, losses=losses)
      ...   return losses
      >>> step(model, optimizer, jnp.ones((4, 3))).shape
      (2,)
    """

    def value_and_task_grads_fun(model, *args, **kwargs):
        graph, params, rest = _split(model, wrt)

        (losses, (aux, moved)), grads = engine.value_and_task_grads(
            _of_params(fun, graph, rest, wrt, has_aux),
            labels=labels,
            has_aux=True,
            **schedule,
        )(params, *args, **kwargs)
        nnx.update(model, moved)
        return ((losses, aux) if has_aux else losses), _like(params, grads)

    return value_and_task_grads_fun


def per_task_value_and_grads(
    fun: Callable[..., PyTree] | Sequence[Callable[..., PyTree]],
    *,
    wrt: Any = nnx.Param,
    in_axes: Axes | str = "auto",
    labels: Labels = None,
    has_aux: bool = False,
    **schedule: Unpack[Schedule],
) -> Callable[..., tuple[PyTree, PyTree]]:
    """`dbmtl_jax.per_task_value_and_grads` of functions whose first argument is an NNX model.

    Every task starts from the same state and has a forward pass of its own.  Floating state, such
    as the statistics of batch normalisation, becomes the mean of what the tasks made of it; of all
    other state, such as counters, the first task's is kept.

    Args:
      fun: `fun(model, *args, **kwargs) -> loss`, or T such functions, or a mapping by name.
      wrt: which variables of the model are parameters, a filter as for `nnx.Optimizer`.
      in_axes, labels, has_aux: as for `dbmtl_jax.per_task_value_and_grads`.
      schedule: `chunk_size`, `mode` and `stream`, as there.

    Returns:
      `fun(model, *args, **kwargs) -> (losses, grads)`, or `((losses, aux), grads)`, as of
      `value_and_task_grads` of this module.

    Raises:
      ValueError, TypeError: as `dbmtl_jax.per_task_value_and_grads`.

    Example:
      >>> import jax.numpy as jnp
      >>> from dbmtl_jax import nnx as mtl
      >>> from flax import nnx
      >>> model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
      >>> fun = mtl.per_task_value_and_grads(lambda m, x: jnp.mean(m(x) ** 2))
      >>> losses, grads = fun(model, [jnp.ones((4, 3)), jnp.ones((2, 3))])
      >>> grads["kernel"].shape
      (2, 3, 1)
    """

    def per_task_value_and_grads_fun(model, *args, **kwargs):
        graph, params, rest = _split(model, wrt)

        def stateful(one):
            return _of_params(one, graph, rest, wrt, has_aux)

        functions = stateful(fun) if callable(fun) else jax.tree.map(stateful, fun)
        (losses, outputs), grads = engine.per_task_value_and_grads(
            functions,
            in_axes=in_axes,
            labels=labels,
            has_aux=True,
            **schedule,
        )(params, *args, **kwargs)
        if isinstance(outputs, tuple):  # stacked over the tasks
            aux, moved = outputs
        elif isinstance(outputs, dict):
            aux = {name: output[0] for name, output in outputs.items()}
            moved = _stacked([output[1] for output in outputs.values()])
        else:
            aux = [output[0] for output in outputs]
            moved = _stacked([output[1] for output in outputs])
        nnx.update(model, jax.tree.map(_of_all_tasks, moved))
        return ((losses, aux) if has_aux else losses), _like(params, grads)

    return per_task_value_and_grads_fun


def encoder_value_and_task_grads(
    encoder: Callable[..., PyTree],
    heads: Sequence[Callable[..., PyTree]] | Mapping[str, Callable[..., PyTree]],
    *,
    wrt: Any = nnx.Param,
    rows: Wrt = "parameters",
    labels: Labels = None,
    has_aux: bool = False,
    **schedule: Unpack[Schedule],
) -> Callable[..., tuple[PyTree, PyTree]]:
    """`dbmtl_jax.encoder_value_and_task_grads` of functions of NNX models.

    Args:
      encoder: `encoder(encoder_model, *args) -> z`; with `has_aux`, (z, aux).
      heads: T functions `head(head_model, z, *args) -> loss`; with `has_aux`, (loss, aux).  With a
        mapping of them by name, head_models, losses and auxiliary outputs are mappings, too.
      wrt: which variables of the models are parameters, a filter as for `nnx.Optimizer`.
      rows: "representation" for what that function calls `wrt="representation"`: gradients ∂ℓ_t/∂z.
      labels: which parameters are frozen, as for that function, for `nnx.state` of the models.
      has_aux: whether encoder and heads return auxiliary outputs, too.
      schedule: `chunk_size`, `mode` and `stream`, as for `encoder_value_and_task_grads`.

    Returns:
      `fun((encoder_model, head_models), *args) -> (losses [T], grads)`, where head_models is a list
      of T models.  With `has_aux` it returns `((losses, (encoder_aux, head_auxes)), grads)`.
      `grads` is a state like `nnx.state((encoder_model, head_models), wrt)`: the encoder's leaves
      are [T, *shape], the heads' [*shape].  Methods then need the labels
      `{0: "shared", 1: {0: 0, 1: 1, ...}}`.  The models' other state is updated in place.

    Raises:
      ValueError, TypeError: as `dbmtl_jax.encoder_value_and_task_grads`.

    Example:
      >>> import jax.numpy as jnp
      >>> from dbmtl_jax import nnx as mtl
      >>> from flax import nnx
      >>> rngs = nnx.Rngs(0)
      >>> models = nnx.Linear(3, 4, rngs=rngs), [nnx.Linear(4, 1, rngs=rngs) for _ in range(2)]
      >>> head = lambda model, z, x: jnp.mean(model(z) ** 2)
      >>> fun = mtl.encoder_value_and_task_grads(lambda model, x: model(x), [head, head])
      >>> losses, grads = fun(models, jnp.ones((5, 3)))
      >>> grads[0]["kernel"].shape, grads[1][0]["kernel"].shape
      ((2, 3, 4), (4, 1))
    """
    _checks.check_option("rows", rows, get_args(Wrt))
    if isinstance(wrt, str) and wrt in get_args(Wrt):
        raise ValueError(
            f"wrt: expected a filter of variables such as nnx.Param, found {wrt!r}; for what the "
            f"rows are gradients of, pass rows={wrt!r}"
        )
    num_tasks = check_num_tasks(list(heads) if isinstance(heads, Mapping) else len(heads))
    functions = in_order("heads", heads, num_tasks)

    def encoder_value_and_task_grads_fun(models, *args):
        encoder_model, of_heads = encoder_and_heads("models", models, num_tasks)
        parts = [_split(model, wrt) for model in (encoder_model, *of_heads)]
        first_of, *heads_of = [
            _of_params(function, graph, rest, wrt, has_aux)
            for function, (graph, _, rest) in zip((encoder, *functions), parts, strict=True)
        ]
        first_params, *head_params = [params for _, params, _ in parts]
        params = first_params, by_name(head_params, num_tasks)
        whole = nnx.state((encoder_model, models[1]), wrt)
        given = None
        if labels is not None:
            found = jax.tree.leaves(_labels.resolve(labels, whole, num_tasks))
            given = jax.tree.unflatten(
                jax.tree.structure(params), [named(label, num_tasks) for label in found]
            )
        (losses, (first, others)), grads = engine.encoder_value_and_task_grads(
            first_of,
            by_name(heads_of, num_tasks),
            labels=given,
            wrt=rows,
            has_aux=True,
            **schedule,
        )(params, *args)
        outputs = [first, *in_order("aux", others, num_tasks)]
        for model, (_, moved) in zip((encoder_model, *of_heads), outputs, strict=True):
            nnx.update(model, moved)
        aux = first[0], by_name([output[0] for output in outputs[1:]], num_tasks)
        return ((losses, aux) if has_aux else losses), _like(whole, grads)

    return encoder_value_and_task_grads_fun


def _split(model: Any, wrt: Any) -> tuple[Any, PyTree, PyTree]:
    """The graph of a model, its parameters, and its other state."""
    graph, *states = nnx.split(model, wrt, ...)
    params, rest = states
    return graph, params, rest


def _of_params(
    fun: Callable[..., Any], graph: Any, rest: PyTree, wrt: Any, has_aux: bool
) -> Callable[..., tuple[PyTree, tuple[PyTree, PyTree]]]:
    """A function of a model as one of its parameters, which also returns the model's new state."""

    def of_params(params, *args, **kwargs):
        model = nnx.merge(graph, params, rest, copy=True)
        value, aux = with_aux(fun, has_aux)(model, *args, **kwargs)
        return value, (aux, nnx.state(model, nnx.Not(wrt)))

    return of_params


def _like(params: PyTree, grads: PyTree) -> PyTree:
    """The gradients as a state like that of the parameters."""
    pending = isinstance(grads, PendingTaskGrads)
    leaves = grads.leaves() if pending else jax.tree.leaves(grads)
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _stacked(states: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _of_all_tasks(leaf: jax.Array) -> jax.Array:
    """One state of what T tasks made of it, [T, *shape]."""
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.mean(leaf, axis=0, dtype=leaf.dtype)
    return leaf[0]
