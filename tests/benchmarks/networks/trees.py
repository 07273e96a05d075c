"""Networks without compiling an initialisation: their shapes, and random values in them."""

from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.networks.functional import Apply, Arrays, functional


class Network(NamedTuple):
    apply: Apply
    params: Arrays
    batch_stats: Arrays


def shapes(make):
    """The functional form of make(rngs), with shapes in the place of arrays."""
    return functional(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def random_network(make, seed=0):
    """With random values in all arrays, such that activations neither vanish nor explode."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1] in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        # Biases so small that no ReLU is dead.
        deviation = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if path[-1] == "kernel" else 0.1
        return rng.normal(0, deviation, leaf.shape).astype(np.float32)

    apply, *trees = shapes(make)
    params, batch_stats = (
        unflatten_dict({path: draw(path, leaf) for path, leaf in flatten_dict(tree).items()})
        for tree in trees
    )
    return Network(apply, params, batch_stats)


def difference(actual, expected):
    """The largest difference, relative to the largest value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all()
    return np.abs(actual - expected).max() / np.abs(expected).max()


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
