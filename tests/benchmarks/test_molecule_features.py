"""The guessed chemistry: textbook molecules by hand, and statistics on real ones."""

import ast
import csv
import importlib.util
import itertools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.networks.molecule_features import EDGE_FEATURES, NODE_FEATURES, featurize, pair_mask

_CHARGE = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
_CH = 1.09
_featurize = jax.jit(featurize)


def _polar(radius, degrees):
    angle = np.deg2rad(degrees)
    return np.array([radius * np.cos(angle), radius * np.sin(angle), 0.0])


def _methane():
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    return "CHHHH", np.concatenate([np.zeros((1, 3)), _CH * corners])


def _acetylene():
    x = np.array([0.0, 1.20, -_CH, 1.20 + _CH])
    return "CCHH", np.stack([x, 0 * x, 0 * x], axis=1)


def _ethene():
    a, b = np.zeros(3), np.array([1.33, 0, 0])
    hydrogens = [
        a + _polar(_CH, 120),
        a + _polar(_CH, 240),
        b + _polar(_CH, 60),
        b - _polar(_CH, 120),
    ]
    return "CCHHHH", np.stack([a, b, *hydrogens])


def _formamide():
    nitrogen = _polar(1.36, 120)
    hydrogens = [_polar(_CH, 240), nitrogen + _polar(1.01, 180), nitrogen + _polar(1.01, 60)]
    return "CONHHH", np.stack([np.zeros(3), _polar(1.21, 0), nitrogen, *hydrogens])


def _benzene():
    ring = [_polar(1.39, 60 * i) for i in range(6)]
    hydrogens = [_polar(1.39 + _CH, 60 * i) for i in range(6)]
    return "C" * 6 + "H" * 6, np.stack(ring + hydrogens)


def _butadiene():
    """Conjugated, planar, but an open chain: single bond 1.45, double bonds 1.34."""
    carbons = [np.zeros(3), _polar(1.34, 0)]
    carbons += [carbons[1] + _polar(1.45, 60)]
    carbons += [carbons[2] + _polar(1.34, 0)]
    hydrogens = [
        carbons[0] + _polar(_CH, 120),
        carbons[0] + _polar(_CH, 240),
        carbons[1] + _polar(_CH, 300),
        carbons[2] + _polar(_CH, 120),
        carbons[3] + _polar(_CH, 60),
        carbons[3] + _polar(_CH, 300),
    ]
    return "CCCCHHHHHH", np.stack(carbons + hydrogens)


def _batch(*molecules, pad=0):
    atoms = max(len(elements) for elements, _ in molecules) + pad
    charges = np.zeros((len(molecules), atoms), np.int8)
    positions = np.zeros((len(molecules), atoms, 3), np.float32)
    for row, (elements, xyz) in enumerate(molecules):
        charges[row, : len(elements)] = [_CHARGE[e] for e in elements]
        positions[row, : len(elements)] = xyz
    return charges, positions


def _single(molecule):
    nodes, edges, _ = _featurize(*_batch(molecule))
    return np.asarray(nodes[0]), np.asarray(edges[0])


def test_shapes_and_padding():
    charges, positions = _batch(_methane(), _benzene(), pad=3)
    nodes, edges, mask = _featurize(charges, positions)
    chex.assert_shape(
        (nodes, edges, mask), [(2, 15, NODE_FEATURES), (2, 15, 15, EDGE_FEATURES), (2, 15)]
    )
    np.testing.assert_array_equal(mask.sum(axis=1), [5, 12])
    assert not nodes[~mask].any()
    np.testing.assert_array_equal(mask, charges > 0)
    pairs = np.asarray([[[i != j for i in range(15)] for j in range(15)]] * 2)
    pairs[0, 5:] = pairs[0, :, 5:] = pairs[1, 12:] = pairs[1, :, 12:] = False
    np.testing.assert_array_equal(pair_mask(mask), pairs)
    np.testing.assert_array_equal(edges[..., 4] > 0, pairs)
    assert not edges[~pairs].any()


def test_padding_may_hold_anything():
    charges, positions = _batch(_methane(), pad=2)
    moved = np.where(charges[..., None] > 0, positions, 0.5)
    chex.assert_trees_all_equal(_featurize(charges, positions), _featurize(charges, moved))


def test_exact_features():
    charges, positions = _batch(("FONCH", np.arange(15.0).reshape(5, 3)))
    nodes, edges, _ = _featurize(charges, positions)
    np.testing.assert_array_equal(nodes[0, :, :5], np.eye(5)[::-1])
    np.testing.assert_array_equal(nodes[0, :, 5], [9, 8, 7, 6, 1])
    steps = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_allclose(edges[0, ..., 4], steps * np.sqrt(27), rtol=1e-6)


@pytest.mark.parametrize(
    ("molecule", "bonds", "hybrid", "aromatic", "hydrogens"),
    [
        # bonds: (atom, atom, single 0 / double 1 / triple 2 / aromatic 3) between heavy atoms
        (_methane(), [], [3], [], [4]),
        (_acetylene(), [(0, 1, 2)], [1, 1], [], [1, 1]),
        (_ethene(), [(0, 1, 1)], [2, 2], [], [2, 2]),
        # The lone pair of the nitrogen is conjugated: sp2, though the bond is a single one.
        (_formamide(), [(0, 1, 1), (0, 2, 0)], [2, 2, 2], [], [1, 0, 2]),
        (_butadiene(), [(0, 1, 1), (1, 2, 0), (2, 3, 1)], [2] * 4, [], [2, 1, 1, 2]),
        (_benzene(), [(i, (i + 1) % 6, 3) for i in range(6)], [2] * 6, range(6), [1] * 6),
    ],
    ids=["methane", "acetylene", "ethene", "formamide", "butadiene", "benzene"],
)
def test_textbook_molecules(molecule, bonds, hybrid, aromatic, hydrogens):
    nodes, edges = _single(molecule)
    heavy = len(hybrid)
    expected = np.zeros((heavy, heavy, 4))
    for i, j, order in bonds:
        expected[i, j, order] = expected[j, i, order] = 1
    np.testing.assert_array_equal(edges[:heavy, :heavy, :4], expected)
    np.testing.assert_array_equal(nodes[:heavy, 7:10], np.eye(4)[hybrid][:, 1:])
    np.testing.assert_array_equal(nodes[:heavy, 6], np.isin(np.arange(heavy), list(aromatic)))
    np.testing.assert_array_equal(nodes[:heavy, 10], hydrogens)
    # Hydrogens: one single bond each, no hybridisation.
    np.testing.assert_array_equal(
        edges[heavy:, :, :4].sum(axis=1), [[1, 0, 0, 0]] * len(edges[heavy:])
    )
    assert not nodes[heavy:, 6:].any()


def test_unknown_elements_keep_exact_features_and_form_no_bonds():
    nodes, edges, mask = _featurize(np.array([[17, 6]]), np.array([[[0.0, 0, 0], [1.8, 0, 0]]]))
    np.testing.assert_array_equal(nodes[0, 0], [0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(edges[0, 0, 1], [0, 0, 0, 0, 1.8], rtol=1e-6)
    assert mask.all()


def test_gradients_with_respect_to_positions_are_finite():
    charges, positions = _batch(_methane(), pad=2)
    gradient = jax.jit(jax.grad(lambda x: featurize(jnp.asarray(charges), x)[1].sum()))(positions)
    chex.assert_tree_all_finite(gradient)


def _qm9_parts():
    """The CSV files of the optional package qm9pack; importing it is not needed."""
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or spec.origin is None:
        return []
    return sorted((pathlib.Path(spec.origin).parent / "data").glob("qm9_part*.csv"))


@pytest.mark.skipif(not _qm9_parts(), reason="qm9pack is not installed")
def test_bonds_of_real_molecules():
    molecules = []
    for part in _qm9_parts():
        with part.open() as file:
            molecules += [
                (ast.literal_eval(row["Elements"]), ast.literal_eval(row["XYZ_Ang"]))
                for row in itertools.islice(csv.DictReader(file), 0, 4000, 40)
            ]
    charges, positions = _batch(*molecules)
    _, edges, mask = _featurize(charges, positions)
    bonds = np.asarray(edges[..., :4]).sum(axis=-1)
    degree = bonds.sum(axis=-1)

    reach = np.eye(bonds.shape[-1]) + bonds
    for _ in range(5):  # 2⁵ bonds are more than there are atoms
        reach = np.minimum(reach @ reach, 1)
    connected = (reach.astype(bool) | ~pair_mask(mask)).all(axis=(1, 2))
    assert connected.mean() >= 0.99
    assert (degree[charges == 1] == 1).all()
    assert degree[charges == 6].max() <= 4
    assert degree[charges == 8].max() <= 2
