"""What a method promises about its update, as asserts that are the same for all methods."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Update = Callable[..., np.ndarray]
"""(gradients [T, P], losses [T] = ones) -> update [P], of a fresh instance of the method."""


class Promises(NamedTuple):
    """Which of the asserts below hold.

    `degree` is d where the update of s G is s^d times that of G, None where there is no such d.
    """

    equivariant: bool = True
    linear: bool = False
    degree: float | None = 1.0


def assert_permutation_equivariant(update: Update, gradients, losses, tolerance) -> None:
    """The order of the tasks does not matter."""
    order = np.random.default_rng(0).permutation(len(gradients))
    expected = update(gradients, losses)
    _assert_close(update(gradients[order], losses[order]), expected, gradients, tolerance)


def assert_linear_under_scaling(update: Update, gradients, losses, tolerance) -> None:
    """A(diag(c) G) is linear in c > 0."""
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.2, 3, (2, len(gradients), 1))
    parts = update(a * gradients, losses) + update(b * gradients, losses)
    _assert_close(update((a + b) * gradients, losses), parts, gradients, tolerance)


def assert_homogeneous(update: Update, gradients, losses, degree, tolerance) -> None:
    """A(s G) = s^d A(G)."""
    expected = update(gradients, losses)
    for scale in (0.01, 100.0):
        scaled = update(scale * gradients, losses) / scale**degree
        _assert_close(scaled, expected, gradients, tolerance)


def assert_non_conflicting(update: Update, gradients, tolerance) -> None:
    """No task's loss grows along the update, but for what float32 cannot resolve."""
    d = update(gradients)
    products = gradients @ d
    scale = np.linalg.norm(gradients, axis=1) * max(np.linalg.norm(d), _largest(gradients) / 10)
    assert np.all(products >= -tolerance * scale), products / np.where(scale > 0, scale, 1)


def assert_equal_projections(update: Update, gradients, tolerance) -> None:
    """The update's components along all gradients are the same."""
    d = update(gradients)
    units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    projections = units @ d
    assert np.ptp(projections) <= tolerance * np.linalg.norm(d), projections


def _largest(gradients) -> float:
    return np.linalg.norm(gradients, axis=1).max()


def _assert_close(actual, expected, gradients, tolerance) -> None:
    """Relative to the update, or to rounding errors of the gradients where it nearly vanishes."""
    scale = max(np.linalg.norm(expected), 1e-3 * _largest(gradients))
    error = np.linalg.norm(actual - expected)
    assert error <= tolerance * scale, f"relative error {error / scale:.1e}"
