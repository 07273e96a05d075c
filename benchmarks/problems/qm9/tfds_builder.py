"""QM9 from the `qm9` builder of TensorFlow Datasets (TFDS), without TensorFlow.

The builder downloads the original files (86 MB) from figshare and subtracts the energies of the
free atoms in float64 before it stores the targets as float32.
"""

from pathlib import Path

import numpy as np
import pandas  # noqa: F401, the builder needs it: so its absence has a name
import requests
import tensorflow_datasets as tfds
from numpy.typing import NDArray

from benchmarks.errors import UserError
from benchmarks.problems.qm9.molecules import MAX_ATOMS, Molecules, to_units

_HOST = "https://springernature.figshare.com"
_TARGETS = [
    "mu",
    "alpha",
    "homo",
    "lumo",
    "r2",
    "zpve",
    "U0_atomization",
    "U_atomization",
    "H_atomization",
    "G_atomization",
    "Cv",
]


def read(data_dir: str | Path | None = None) -> Molecules:
    """Reads the data from `data_dir`, by default that of TFDS; prepares them if necessary."""
    # Without TensorFlow, TFDS can only write and read formats with random access.
    builder = tfds.builder("qm9/original", data_dir=data_dir, file_format="array_record")
    if not builder.is_prepared():
        _prepare(builder)
    try:
        index, charges, positions, targets = _read_arrays(builder)
    except Exception as error:  # TFDS does not document its errors for damaged data.
        raise UserError(
            f"the QM9 data in {builder.data_dir} cannot be read ({_one_line(error)}): "
            "delete that folder to have them prepared again"
        ) from error
    if (bad := np.argwhere(~np.isfinite(targets))).size:
        row, task = bad[0]
        raise UserError(
            f"{builder.data_dir}: {_TARGETS[task]} of molecule {index[row]} is "
            f"{targets[row, task]}, expected a finite number"
        )
    order = np.argsort(index)
    return Molecules(charges[order], positions[order], to_units(targets[order]))


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Downloads the data and writes them in the format of TFDS, which takes some minutes."""
    try:
        requests.head(_HOST, timeout=20)  # Any answer will do; TFDS would retry for minutes.
    except requests.RequestException as error:
        raise UserError(
            f"no QM9 data in {builder.data_dir}, and {_HOST} cannot be reached to download them; "
            "the source qm9pack needs no network"
        ) from error
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # errors of the network, files, disk or builder
        # The original files contain numbers such as "-8.62*^-8", which TFDS cannot read with
        # pandas 3.
        hint = '; its builder needs pip install "pandas<3"' if "*^" in str(error) else ""
        raise UserError(
            f"TFDS could not prepare QM9 in {builder.data_dir}: {_one_line(error)}{hint}"
        ) from error


def _read_arrays(
    builder: tfds.core.DatasetBuilder,
) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
    """Reads molecule numbers [N], charges [N, 29], positions [N, 29, 3] and targets [N, 11]."""
    records = builder.as_data_source(
        "train", deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    index = np.empty(len(records), np.int64)
    charges = np.empty((len(records), MAX_ATOMS), np.int8)
    positions = np.empty((len(records), MAX_ATOMS, 3), np.float32)
    targets = np.empty((len(records), len(_TARGETS)), np.float32)

    # Decoding only the features in use takes a quarter of the time that all thirty take.
    names = ["index", "charges", "positions", *_TARGETS]
    features = tfds.features.FeaturesDict({name: builder.info.features[name] for name in names})
    for row, record in enumerate(records):
        molecule = features.deserialize_example_np(record)
        index[row] = molecule["index"]
        charges[row] = molecule["charges"]
        positions[row] = molecule["positions"]
        targets[row] = [molecule[name] for name in _TARGETS]
    return index, charges, positions, targets


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
