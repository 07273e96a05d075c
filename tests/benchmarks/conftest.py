"""A tiny data set in the form of QM9, so that whole runs take seconds."""

import dataclasses
import functools
import pathlib

import numpy as np
import pytest

pytest.importorskip("flax")
pytest.importorskip("rich")
pytest.importorskip("tyro")

from benchmarks.config import Compare
from benchmarks.problems import qm9
from benchmarks.problems.qm9 import problem as qm9_problem
from benchmarks.problems.qm9.models import MoleculeBatch
from benchmarks.problems.qm9.problem import QM9Problem
from benchmarks.problems.qm9.settings import QM9Config
from benchmarks.settings import TrainConfig

NUM_MOLECULES = 40
QM9 = QM9Config(
    train_size=16,
    validation_size=8,
    test_size=10,
    chunks=1,
    width=6,
    edge_width=4,
    message_steps=1,
)
TASKS = (1, 4, 9)
"""Three of the eleven, as compiling takes a time for each."""
TRAIN = TrainConfig(epochs=3, batch_size=8, learning_rate=1e-2, log_every=1)


def make_molecules(seed: int = 0) -> qm9.Molecules:
    """Random clouds of three to six atoms; the targets follow from them."""
    rng = np.random.default_rng(seed)
    charges = np.zeros((NUM_MOLECULES, qm9.MAX_ATOMS), np.int8)
    positions = np.zeros((NUM_MOLECULES, qm9.MAX_ATOMS, 3), np.float32)
    for i in range(NUM_MOLECULES):
        atoms = rng.integers(3, 7)
        charges[i, :atoms] = rng.choice([1, 6, 7, 8, 9], atoms)
        positions[i, :atoms] = rng.normal(size=(atoms, 3)) * 1.5
    charge = charges.sum(1, dtype=float)
    scales = 10.0 ** np.arange(-2, 9)
    targets = charge[:, None] * scales + rng.normal(size=(NUM_MOLECULES, 11)) * scales
    return qm9.Molecules(charges, positions, targets)


@pytest.fixture(scope="session")
def problem() -> QM9Problem:
    return QM9Problem(QM9, TRAIN.batch_size, make_molecules(), tasks=TASKS)


@pytest.fixture
def tiny(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """A comparison that reads the tiny molecules instead of QM9."""
    monkeypatch.setattr(qm9, "load", lambda *_: make_molecules())
    monkeypatch.setattr(qm9_problem, "QM9Problem", functools.partial(QM9Problem, tasks=TASKS))
    return Compare(dataset="qm9", data=QM9, train=TRAIN, out=tmp_path / "out")


def changed(config: Compare, **train: object) -> Compare:
    """The comparison with other settings of the training loop."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **train))


def first_batch(problem: QM9Problem) -> MoleculeBatch:
    """The first batch of the training set."""
    static, arrays = problem.batches("train")[0]
    return problem.load(problem.data, static, arrays)
