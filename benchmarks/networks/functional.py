"""Converts an NNX module to arrays and a pure function.

The rest of the code (engine, optimizers, checkpoints) uses nested dicts of arrays with string keys,
which jit, vmap, optax and Orbax accept directly.
"""

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

Arrays = dict[str, Any]
"""A nested dict of arrays with string keys; items of an `nnx.List` have the keys "0", "1", …"""

_Path = tuple[Any, ...]


class Apply(Protocol):
    """A module as a pure function of its parameters and batch statistics."""

    def __call__(
        self,
        params: Arrays,
        batch_stats: Arrays,
        *args: Any,
        train: bool = False,
        rng: jax.Array | None = None,
        method: str | None = None,
        **kwargs: Any,
    ) -> tuple[Any, Arrays]:
        """Runs the module.

        Args:
          params: parameters, with the same structure as in `Functional`.
          batch_stats: batch statistics, with the same structure as in `Functional`.
          *args: arguments of the module.
          train: whether to run in training mode, which normalises with the statistics of the
            batch and applies dropout; evaluation mode uses `batch_stats` and no dropout.
          rng: PRNG key for dropout; needed in training mode if the module draws random numbers.
            Every layer gets a different key from it.
          method: dotted name of the method or submodule to call instead of the module itself.
          **kwargs: arguments of the module.

        Returns:
          The output of the module, and the new batch statistics (in evaluation mode, the old ones).

        Raises:
          ValueError: if a tree does not have exactly the arrays of the module, or `rng` is
            missing.
        """


class Functional(NamedTuple):
    """A module in functional form. `apply` keeps no arrays, so that `params` can be donated."""

    apply: Apply
    """the module as a pure function"""
    params: Arrays
    """its initial parameters"""
    batch_stats: Arrays
    """its initial batch statistics"""


def functional(module: nnx.Module) -> Functional:
    """Splits a module into a pure function, its parameters and its batch statistics.

    Every `nnx.Param` is a parameter, every `nnx.BatchStat` a batch statistic. Random streams are
    seeded anew in every call. The module is neither changed nor kept.

    Raises:
      ValueError: if the module has state of any other kind.
    """
    graphdef, *states = nnx.split(module, nnx.Param, nnx.BatchStat, nnx.RngState, ...)
    params, batch_stats, streams, others = (_leaves(state) for state in states)
    if others:
        found = ", ".join(f"{_name(path)} ({type(leaf).__name__})" for path, leaf in others.items())
        raise ValueError(f"expected only parameters, batch statistics and rngs, found {found}")
    param_paths = _string_keys(params)
    stat_paths = _string_keys(batch_stats)
    # Only paths and kinds, as a closure over the arrays would keep them in memory.
    stream_kinds = {path: type(leaf) for path, leaf in streams.items()}

    def apply(
        params: Arrays,
        batch_stats: Arrays,
        *args: Any,
        train: bool = False,
        rng: jax.Array | None = None,
        method: str | None = None,
        **kwargs: Any,
    ) -> tuple[Any, Arrays]:
        if train and stream_kinds and rng is None:
            raise ValueError("rng: this module draws random numbers in training mode, give a key")
        merged = nnx.merge(
            graphdef,
            _with_paths("params", params, param_paths),
            _with_paths("batch_stats", batch_stats, stat_paths),
            _seeded(stream_kinds, rng),
        )
        if train:
            merged.train()
        else:
            merged.eval()
        call = merged if method is None else operator.attrgetter(method)(merged)
        outputs = call(*args, **kwargs)
        return outputs, _arrays(_leaves(nnx.state(merged, nnx.BatchStat)))

    return Functional(apply, _arrays(params), _arrays(batch_stats))


def _leaves(state: nnx.State) -> dict[_Path, Any]:
    return dict(nnx.to_flat_state(state))


def _string_keys(leaves: Mapping[_Path, Any]) -> dict[tuple[str, ...], _Path]:
    """Maps paths with string keys, as Orbax returns them, to the original paths."""
    return {tuple(map(str, path)): path for path in leaves}


def _arrays(leaves: Mapping[_Path, Any]) -> Arrays:
    tree: Arrays = unflatten_dict(
        {tuple(map(str, path)): leaf.get_value() for path, leaf in leaves.items()}
    )
    return tree


def _with_paths(where: str, tree: Arrays, paths: Mapping[tuple[str, ...], _Path]) -> dict[Any, Any]:
    """`tree` with the original keys of the module."""
    leaves = flatten_dict(tree)
    if leaves.keys() != paths.keys():
        missing = sorted(_name(path) for path in paths.keys() - leaves.keys())
        unknown = sorted(_name(path) for path in leaves.keys() - paths.keys())
        raise ValueError(f"{where}: missing {missing}, not in the module {unknown}")
    nested: dict[Any, Any] = unflatten_dict({paths[path]: leaf for path, leaf in leaves.items()})
    return nested


def _seeded(kinds: Mapping[_Path, type], rng: jax.Array | None) -> dict[Any, Any]:
    """The state of the random streams at the start of a call."""
    key = jax.random.key(0) if rng is None else rng  # not used in evaluation mode
    leaves = {
        path: jax.random.fold_in(key, index)
        if issubclass(kind, nnx.RngKey)
        else jnp.zeros((), jnp.uint32)
        for index, (path, kind) in enumerate(kinds.items())
    }
    nested: dict[Any, Any] = unflatten_dict(leaves)
    return nested


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))
