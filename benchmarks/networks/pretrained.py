"""ImageNet weights of torchvision's ResNets, from a `.safetensors` or `.npz` file.

The arrays in the file are named as in torchvision (`layer1.0.conv1.weight`, …). Such files are the
`tv_in1k` checkpoints of timm, or state dicts written by `numpy.savez(path, **arrays)`. The kernels
of convolutions have the order OIHW in the file and HWIO here.
"""

import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.errors import UserError, how_to_install
from benchmarks.files.arrays import read_npz
from benchmarks.files.disk import in_a_line
from benchmarks.networks.functional import Arrays

_SHOWN = 8  # number of names of each kind in an error message

_PARAMETERS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_STATISTICS = {"mean": "running_mean", "var": "running_var"}

_Path = tuple[str, ...]


def load_backbones(
    path: str | pathlib.Path,
    params: Arrays,
    batch_stats: Arrays,
    backbones: Iterable[_Path] = ((),),
) -> tuple[Arrays, Arrays]:
    """Loads a file's weights into the ResNets of a network.

    Args:
      path: a `.safetensors` or `.npz` file.
      params, batch_stats: trees of the whole network, see `functional`; they are not changed.
      backbones: paths of the ResNets in both trees (the attribute `backbones` of a network); by
        default the network itself is a ResNet.

    Returns:
      The new `params` and `batch_stats`.

    Raises:
      UserError: if the file cannot be read, or its names, shapes or values do not match the
        ResNet.
    """
    weights = read_weights(path)
    flat = flatten_dict(params), flatten_dict(batch_stats)
    for at in backbones:
        parts = [
            {key[len(at) :]: leaf for key, leaf in tree.items() if key[: len(at)] == at}
            for tree in flat
        ]
        for tree, new in zip(flat, _converted(str(path), weights, *parts), strict=True):
            tree.update({at + key: leaf for key, leaf in new.items()})
    return unflatten_dict(flat[0]), unflatten_dict(flat[1])


def read_weights(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a file by name, without the classifier and the counts of batches.

    Raises:
      UserError: if the file is missing, of another kind, or damaged.
    """
    path = pathlib.Path(path)
    readers: dict[str, Callable[[pathlib.Path], Mapping[str, np.ndarray]]] = {
        ".safetensors": _read_safetensors,
        ".npz": read_npz,
    }
    if path.suffix not in readers:
        raise UserError(f"{path}: expected a .safetensors or .npz file of weights")
    if not os.path.isfile(path):  # unlike `Path.is_file`, it takes a name of any length
        raise UserError(f"{path}: there is no such file of weights")
    return {
        name: array
        for name, array in readers[path.suffix](path).items()
        if not name.startswith("fc.") and not name.endswith(".num_batches_tracked")
    }


def _converted(
    source: str,
    weights: Mapping[str, np.ndarray],
    params: dict[_Path, Any],
    stats: dict[_Path, Any],
) -> tuple[dict[_Path, Any], dict[_Path, Any]]:
    """Converts the weights to the leaves `params` and `stats` of a ResNet."""
    leaves = {_name(path, _PARAMETERS): leaf for path, leaf in params.items()}
    leaves |= {_name(path, _STATISTICS): leaf for path, leaf in stats.items()}
    expected = {name: _torch_shape(leaf.shape) for name, leaf in leaves.items()}
    _check(source, weights, expected)

    def convert(path: _Path, names: Mapping[str, str], leaf: Any) -> Any:
        array = weights[_name(path, names)]
        return jnp.asarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array, leaf.dtype)

    return (
        {path: convert(path, _PARAMETERS, leaf) for path, leaf in params.items()},
        {path: convert(path, _STATISTICS, leaf) for path, leaf in stats.items()},
    )


def _check(
    source: str, weights: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises an error that names all weights that do not match the ResNet."""
    common = [name for name in expected if name in weights]
    complaints = {
        "missing": [name for name in expected if name not in weights],
        "not in this network": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name} (expected {expected[name]}, found {weights[name].shape})"
            for name in common
            if weights[name].shape != expected[name]
        ],
        "not finite numbers": [name for name in common if not _is_finite(weights[name])],
    }
    found = [f"{kind}: {_listed(names)}" for kind, names in complaints.items() if names]
    if found:
        raise UserError(f"{source}: these are not the weights of this ResNet; {'; '.join(found)}")


def _name(path: _Path, names: Mapping[str, str]) -> str:
    """The torchvision name of the leaf at a path of a ResNet."""
    *modules, leaf = path
    return ".".join([*modules, names[leaf]])


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else tuple(shape)


def _is_finite(array: np.ndarray) -> bool:
    try:
        return bool(np.isfinite(array).all())
    except TypeError:  # not numbers at all
        return False


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise UserError(
            f"{path}: reading it needs the package safetensors, which is not installed: "
            f"{how_to_install('vision')}"
        ) from error
    try:
        return safetensors.numpy.load_file(path)
    except Exception as error:  # also of types that NumPy does not have, such as float8
        raise UserError(
            f"{path}: damaged, or not a .safetensors file of NumPy's types ({in_a_line(error)})"
        ) from error
