"""Graph features of small organic molecules, from charges and positions alone.

The published QM9 network uses features that RDKit computes from the structural formula of a
molecule. Here they are computed from the geometry inside of the jitted step, so that the data set
is only a few dozen megabytes of charges and positions, and no chemistry package is needed.

**Elements, atomic numbers and distances are exact. All other features are estimates and differ from
those of RDKit for some molecules:**

- two atoms are bonded if they are closer than the sum of their covalent radii plus a tolerance;
- a bond's order follows from its length, by one table of thresholds per pair of elements;
- hybridisation follows from the number of neighbours and lone pairs; nitrogen and oxygen with a
  lone pair beside an unsaturated atom count as sp2;
- a bond is aromatic if it joins two sp2 atoms, is shorter than a single bond, and remains
  when all open chains of such bonds are removed. Hückel's rule is not checked.

On QM9 the features agree with those of RDKit for nearly all molecules; the exceptions are mostly
unusual heteroaromatic rings and diynes.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

NODE_FEATURES = 11
"""Number of node features: one-hot H, C, N, O, F; atomic number; aromatic; one-hot sp, sp2, sp3;
number of hydrogens."""

EDGE_FEATURES = 5
"""Number of edge features: one-hot single, double, triple, aromatic; distance in the unit of the
positions (Å)."""

ELEMENTS = (1, 6, 7, 8, 9)
"""The atomic numbers with a one-hot feature: H, C, N, O, F. Other elements form no bonds."""

_MAX_CHARGE = max(ELEMENTS)
_MAX_HEAVY_ATOMS = 9  # in QM9; the largest length of an open chain
_BOND_TOLERANCE = 0.24
_COVALENT_RADII = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57}
_LONE_PAIRS = {7: 1, 8: 2, 9: 3}
_VALENCE = {1: 1, 6: 4, 7: 3, 8: 2, 9: 1}

# Thresholds of the bond length in Å: a bond is triple below the first, double below the second, and
# otherwise single. A bond of sp2 atoms in a ring is aromatic below the third.
_BOND_LENGTHS = {
    (6, 6): (1.27, 1.36, 1.52),
    (6, 7): (1.20, 1.33, 1.45),
    (6, 8): (1.16, 1.28, 1.47),
    (7, 7): (1.16, 1.30, 1.44),
    (7, 8): (0.00, 1.30, 1.46),
    (8, 8): (0.00, 1.30, 0.00),
}


def _per_element(values: Mapping[int, float]) -> np.ndarray:
    """A table `[charge]` indexed by atomic number; 0 for padding and unknown elements."""
    table = np.zeros(_MAX_CHARGE + 1, np.float32)
    for charge, value in values.items():
        table[charge] = value
    return table


def _per_pair(values: Mapping[tuple[int, int], tuple[float, float, float]]) -> np.ndarray:
    """A symmetric table `[charge, charge, 3]`; bonds of other pairs are always single."""
    table = np.zeros((_MAX_CHARGE + 1, _MAX_CHARGE + 1, 3), np.float32)
    for (a, b), limits in values.items():
        table[a, b] = table[b, a] = limits
    return table


_RADIUS = _per_element(_COVALENT_RADII)
_LONE = _per_element(_LONE_PAIRS)
_VALENCES = _per_element(_VALENCE)
_LIMITS = _per_pair(_BOND_LENGTHS)


def featurize(charges: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Node features, edge features and atom mask of a padded batch of molecules.

    Args:
      charges: atomic numbers `[B, A]`, integers; 0 marks padding.
      positions: coordinates in Å `[B, A, 3]`; any finite value at padding.

    Returns:
      `nodes` `[B, A, 11]` (see `NODE_FEATURES`), `edges` `[B, A, A, 5]` (see `EDGE_FEATURES`) and
      `mask` `[B, A]`, true at atoms. Features of padded atoms, of pairs with a padded atom, and of
      pairs of an atom with itself are zero. `edges` is symmetric in the two atoms.
    """
    mask = charges > 0
    known = jnp.where(charges <= _MAX_CHARGE, charges, 0)
    distance = _distances(positions, mask)

    radius = jnp.asarray(_RADIUS)[known]
    reach = radius[:, :, None] + radius[:, None, :] + _BOND_TOLERANCE
    bonds = (
        (distance > 0) & (distance < reach) & (radius[:, :, None] > 0) & (radius[:, None, :] > 0)
    )

    hybrid = _hybridisation(known, bonds)
    limits = jnp.asarray(_LIMITS)[known[:, :, None], known[:, None, :]]
    sp2 = hybrid[..., 1]
    conjugated = bonds & sp2[:, :, None] & sp2[:, None, :] & (distance < limits[..., 2])
    aromatic = _cut_open_chains(conjugated)
    triple = bonds & (distance < limits[..., 0])
    double = bonds & ~aromatic & ~triple & (distance < limits[..., 1])
    triple &= ~aromatic
    single = bonds & ~aromatic & ~triple & ~double

    dtype = positions.dtype
    hydrogens = jnp.sum(bonds & (known == 1)[:, None, :], axis=-1)
    nodes = jnp.concatenate(
        [
            _one_hot(charges, ELEMENTS).astype(dtype),
            charges[..., None].astype(dtype),
            aromatic.any(axis=-1)[..., None].astype(dtype),
            hybrid.astype(dtype),
            hydrogens[..., None].astype(dtype),
        ],
        axis=-1,
    )
    edges = jnp.concatenate(
        [
            jnp.stack([single, double, triple, aromatic], axis=-1).astype(dtype),
            distance[..., None],
        ],
        axis=-1,
    )
    return nodes, edges, mask


def pair_mask(mask: jax.Array) -> jax.Array:
    """A mask `[B, A, A]` of all ordered pairs of two different atoms.

    `mask` `[B, A]` is true at atoms and false at padding.
    """
    different = ~jnp.eye(mask.shape[-1], dtype=bool)[None]
    return mask[:, :, None] & mask[:, None, :] & different


def _distances(positions: jax.Array, mask: jax.Array) -> jax.Array:
    """Distances `[B, A, A]` between different atoms, 0 elsewhere.

    They are computed from differences, as the Gram matrix is not exact enough: 0.01 Å can decide
    on the order of a bond.
    """
    difference = positions[:, :, None, :] - positions[:, None, :, :]
    square = jnp.sum(difference**2, axis=-1)
    valid = pair_mask(mask)
    # The inner `where` keeps sqrt away from 0, where its derivative is infinite.
    return jnp.where(valid, jnp.sqrt(jnp.where(valid, square, 1.0)), 0.0)


def _hybridisation(charges: jax.Array, bonds: jax.Array) -> jax.Array:
    """One-hot sp, sp2, sp3 `[B, A, 3]`; false for padding and, as in RDKit, for hydrogen."""
    neighbours = jnp.sum(bonds, axis=-1)
    lone_pairs = jnp.asarray(_LONE)[charges]
    domains = jnp.minimum(neighbours + lone_pairs, 4)
    heavy = charges > 1
    unsaturated = heavy & (neighbours < jnp.asarray(_VALENCES)[charges])
    beside_unsaturated = jnp.any(bonds & unsaturated[:, None, :], axis=-1)
    donates = ((charges == 7) & (neighbours == 3)) | ((charges == 8) & (neighbours == 2))
    domains = jnp.where(donates & beside_unsaturated, 3, domains)
    return heavy[..., None] & _one_hot(domains, (2, 3, 4))


def _one_hot(values: jax.Array, classes: tuple[int, ...]) -> jax.Array:
    """`values` `[B, A]` as one-hot bools `[B, A, len(classes)]`."""
    return jnp.stack([values == value for value in classes], axis=-1)


def _cut_open_chains(bonds: jax.Array) -> jax.Array:
    """Repeatedly removes the bonds of atoms with only one bond, so that rings and links are left.

    `bonds` is a mask `[B, A, A]`, as is the result.
    """

    def cut(_: int, kept: jax.Array) -> jax.Array:
        inner = jnp.sum(kept, axis=-1) >= 2
        return kept & inner[:, :, None] & inner[:, None, :]

    return jax.lax.fori_loop(0, _MAX_HEAVY_ATOMS, cut, bonds)
