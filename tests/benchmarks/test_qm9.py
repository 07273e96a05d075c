"""QM9: the real molecules against known facts; its sources, splits and normalisation."""

import importlib.util
import sys

import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.problems import qm9

HARTREE_IN_MEV = 27211.3825435


@pytest.fixture(scope="module")
def real() -> qm9.Molecules:
    if importlib.util.find_spec("qm9pack") is None:
        pytest.skip("the package qm9pack, which holds the QM9 data, is not installed")
    return qm9.load()


def test_real_methane(real):
    assert real.charges[0].tolist() == [6, 1, 1, 1, 1] + [0] * 24
    bonds = np.linalg.norm(real.positions[0, 1:5] - real.positions[0, 0], axis=1)
    np.testing.assert_allclose(bonds, 1.092, atol=1e-3)  # Angstrom
    targets = dict(zip(qm9.TASKS, real.targets[0], strict=True))
    assert targets["U0"] == pytest.approx(-17172.18, abs=0.01)
    assert targets["mu"] == 0
    assert targets["alpha"] == pytest.approx(13.21)
    assert targets["eps_HOMO"] == pytest.approx(-0.3877 * HARTREE_IN_MEV)
    assert targets["c_v"] == pytest.approx(6.469)


def test_real_standard_deviations(real):
    in_ev = np.array([1e-3 if unit == "meV" else 1 for unit in qm9.UNITS])
    known = [1.503, 8.174, 0.5977, 1.2749, 280.48, 0.9017, 10.3238, 10.4152, 10.4893, 9.4983, 4.068]
    np.testing.assert_allclose(real.targets.std(axis=0) * in_ev, known, rtol=5e-4)


def test_real_molecules_are_whole(real):
    assert len(real.charges) == 130_831
    assert (real.num_atoms.min(), real.num_atoms.max()) == (3, 29)
    is_atom = np.arange(29) < real.num_atoms[:, None]
    assert ((real.charges > 0) == is_atom).all()
    assert (real.positions[~is_atom] == 0).all()
    assert set(np.unique(real.charges)) == {0, 1, 6, 7, 8, 9}
    heavy_atoms = (real.charges > 1).sum(axis=1)
    assert heavy_atoms.max() == 9
    nearest = np.linalg.norm(real.positions[:, 0] - real.positions[:, 1], axis=1)
    assert 0.9 < nearest.min() < nearest.max() < 11


def test_real_targets_obey_thermodynamics(real):
    """Relations between targets that hold for no other order of columns, units or free atoms."""
    t = dict(zip(qm9.TASKS, real.targets.T, strict=True))
    # H = U + RT of every molecule and every free atom, each rounded to 1e-6 Hartree.
    rt = 8.314463 * 298.15 / 96.48533  # meV
    np.testing.assert_allclose(t["H"] - t["U"], rt * (1 - real.num_atoms), atol=0.03 * 30)
    assert (t["G"] > t["H"]).all()  # bound atoms have less entropy than free ones
    assert (t["U"] < t["U0"]).all()
    assert (t["eps_LUMO"] > t["eps_HOMO"]).all()
    assert (t["ZPVE"] > 0).all()


def test_package_is_not_imported(real):
    assert "qm9pack" not in sys.modules


def test_missing_packages_are_named(monkeypatch):
    install = r"not installed: run `pip install -e '.\[qm9\]'`"
    pytest.importorskip("pandas")
    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=f"package qm9pack, which is {install}"):
            qm9.load("qm9pack")
    for source, package in (
        ("qm9pack", "pandas"),
        ("tfds", "tensorflow_datasets"),
        ("tfds", "pandas"),
    ):
        with monkeypatch.context() as without:
            for reader in ("csv_files", "tfds_builder"):
                name = f"benchmarks.problems.qm9.{reader}"
                without.delitem(sys.modules, name, raising=False)
            without.setitem(sys.modules, package, None)
            with pytest.raises(UserError, match=f"needs the package {package}, which is {install}"):
                qm9.load(source)


def test_unknown_source():
    with pytest.raises(ValueError, match='"qm9pack" or "tfds", not \'qm8\''):
        qm9.load("qm8")  # type: ignore[arg-type]


def test_split_is_a_seeded_partition():
    full = qm9.split(1_000, seed=3, validation=100, test=200)
    assert [len(part) for part in full] == [700, 100, 200]
    assert sorted(np.concatenate(full)) == list(range(1_000))
    again, other = (qm9.split(1_000, seed=s, validation=100, test=200) for s in (3, 4))
    for part, same, different in zip(full, again, other, strict=True):
        np.testing.assert_array_equal(part, same)
        assert (part != different).any()


def test_split_of_a_subset_keeps_the_rest():
    full = qm9.split(1_000, seed=3, validation=100, test=200)
    small = qm9.split(1_000, seed=3, train=50, validation=100, test=200)
    np.testing.assert_array_equal(small.train, full.train[:50])
    np.testing.assert_array_equal(small.validation, full.validation)
    np.testing.assert_array_equal(small.test, full.test)


def test_split_defaults():
    sizes = [len(part) for part in qm9.split(130_831, seed=0)]
    assert sizes == [110_831, 10_000, 10_000]


@pytest.mark.parametrize("sizes", [{"train": 701}, {"train": 0}, {"validation": -1}, {"test": 900}])
def test_split_too_large(sizes):
    with pytest.raises(UserError, match="cannot split 1,000 molecules into"):
        qm9.split(1_000, seed=0, **{"validation": 100, "test": 200, **sizes})


def test_normalizer():
    targets = np.random.default_rng(0).normal(5, np.arange(1, 12), size=(200, 11))
    normalizer = qm9.Normalizer.fit(targets[:150])
    normalized = normalizer.normalize(targets)
    np.testing.assert_allclose(normalized[:150].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(normalized[:150].std(axis=0), 1)
    prediction = normalized + np.linspace(-1, 1, 200)[:, None]
    errors = np.abs(prediction - normalized).mean(axis=0)
    in_units = np.abs(prediction * targets[:150].std(0) + targets[:150].mean(0) - targets).mean(0)
    np.testing.assert_allclose(normalizer.mae_in_units(errors), in_units)


def test_normalizer_of_a_constant():
    targets = np.random.default_rng(0).normal(size=(4, 11))
    targets[:, 0] = 1.5
    with pytest.raises(ValueError, match="cannot normalise mu: the same for all 4"):
        qm9.Normalizer.fit(targets)
