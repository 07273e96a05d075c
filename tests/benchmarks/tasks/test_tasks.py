"""Losses and metrics against plain NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.tasks import CLASSIFICATION, DEPTH, NORMALS, SEGMENTATION
from benchmarks.tasks.normals import RESOLUTION

SHAPE = (3, 6, 8)
CLASSES = 5
ALL = (SEGMENTATION, DEPTH, NORMALS, CLASSIFICATION)


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def random_case(task, seed, empty=False):
    """Predictions and targets, about a third of them not to count; none to count if `empty`."""
    rng = np.random.default_rng(seed)
    hidden = np.ones(SHAPE, bool) if empty else rng.random(SHAPE) < 0.35
    if task is SEGMENTATION or task is CLASSIFICATION:
        # Class 3 is never the target, and class 4 neither that nor predicted.
        logits = rng.normal(size=(*SHAPE, CLASSES)) * 3 - 99 * (np.arange(CLASSES) == 4)
        return logits.astype(np.float32), np.where(hidden, -1, rng.integers(0, 3, SHAPE))
    if task is DEPTH:
        target = np.where(hidden, 0, rng.uniform(0.5, 9, SHAPE))[..., None]
        return rng.normal(3, 2, (*SHAPE, 1)).astype(np.float32), target.astype(np.float32)
    target = unit(rng.normal(size=(*SHAPE, 3)))
    predicted = target * rng.uniform(0.1, 7, (*SHAPE, 1)) + rng.normal(size=target.shape) * 0.4
    target[hidden] = 0
    return predicted.astype(np.float32), target.astype(np.float32)


def expected_loss(task, predicted, target):
    p = np.asarray(predicted, float)
    if task is SEGMENTATION or task is CLASSIFICATION:
        valid = target >= 0
        logs = p - np.log(np.exp(p).sum(-1, keepdims=True))
        return -np.mean([row[label] for row, label in zip(logs[valid], target[valid], strict=True)])
    if task is DEPTH:
        return np.abs(p - target)[target != 0].mean()
    valid = (target != 0).any(-1)
    return 1 - (unit(p) * target).sum(-1)[valid].mean()


def expected_metrics(task, predicted, target):
    p = np.asarray(predicted, float)
    if task is CLASSIFICATION:
        valid = target >= 0
        return [(p.argmax(-1) == target)[valid].mean()]
    if task is SEGMENTATION:
        valid = target >= 0
        guess, truth = p.argmax(-1)[valid], target[valid]
        ious = []
        for c in range(CLASSES):
            either = (guess == c) | (truth == c)
            if either.any():
                ious.append(((guess == c) & (truth == c)).sum() / either.sum())
        return [np.mean(ious), (guess == truth).mean()]
    if task is DEPTH:
        valid = target != 0
        error = np.abs(p - target)[valid]
        return [error.mean(), (error / target[valid]).mean()]
    valid = (target != 0).any(-1)
    cosine = (unit(p) * unit(np.where(valid[..., None], target, 1.0).astype(float))).sum(-1)[valid]
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return [angle.mean(), np.median(angle), *((angle < t).mean() for t in (11.25, 22.5, 30))]


def tolerance(task):
    """The median of angles comes from a histogram."""
    return [1e-5, RESOLUTION, 1e-5, 1e-5, 1e-5] if task is NORMALS else 1e-5


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.name)
def test_loss(task):
    for seed in range(3):
        predicted, target = random_case(task, seed)
        loss = jax.jit(task.loss)(predicted, target)
        np.testing.assert_allclose(
            loss, expected_loss(task, predicted, target), rtol=2e-6, atol=1e-6
        )
        assert loss.shape == ()


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.name)
def test_metrics_of_summed_totals(task):
    cases = [random_case(task, seed) for seed in range(4)]
    cases.append(random_case(task, 4, empty=True))
    totals = jax.jit(task.totals)
    parts = [totals(*case) for case in cases]
    summed = jax.tree.map(lambda *rows: np.sum(rows, axis=0), *parts)
    everything = [np.concatenate(arrays) for arrays in zip(*cases, strict=True)]
    found, expected = task.metrics(summed), expected_metrics(task, *everything)
    assert len(found) == len(task.metric_names) == len(task.higher_is_better)
    difference = np.abs(np.array(found) - expected)
    assert (difference <= np.array(tolerance(task)) * np.maximum(1, np.abs(expected))).all(), (
        found,
        expected,
    )


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.name)
def test_nothing_counts(task):
    predicted, target = random_case(task, 0, empty=True)
    loss, grad = jax.value_and_grad(task.loss)(jnp.asarray(predicted), target)
    assert loss == 0
    np.testing.assert_array_equal(grad, 0)
    assert np.isnan(task.metrics(jax.device_get(task.totals(predicted, target)))).all()


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.name)
def test_gradient(task):
    predicted, target = random_case(task, 1)
    predicted[0, 0] = 0  # has no direction
    hidden = target < 0 if target.ndim == 3 else (target == 0).all(-1)
    grad = jax.grad(lambda p: task.loss(p, target))(jnp.asarray(predicted))
    np.testing.assert_array_equal(np.asarray(grad)[hidden], 0)
    assert np.isfinite(grad).all()
    assert (np.asarray(grad)[~hidden] != 0).any()


def test_perfect_predictions():
    _, labels = random_case(SEGMENTATION, 0)
    logits = jax.nn.one_hot(labels, CLASSES)
    assert SEGMENTATION.metrics(SEGMENTATION.totals(logits, labels)) == [1, 1]
    _, depth = random_case(DEPTH, 0)
    assert DEPTH.metrics(DEPTH.totals(depth, depth)) == [0, 0]
    _, normal = random_case(NORMALS, 0)
    mean, median, *shares = NORMALS.metrics(NORMALS.totals(3 * normal, normal))
    assert mean < 1e-4  # the arc cosine would give 0.02
    assert median <= RESOLUTION
    assert shares == [1, 1, 1]
    assert abs(NORMALS.loss(3 * normal, normal)) < 1e-6


def test_opposite_normals():
    _, normal = random_case(NORMALS, 0)
    mean, median, *_ = NORMALS.metrics(NORMALS.totals(-normal, normal))
    assert mean == pytest.approx(180)
    assert median == pytest.approx(180, abs=RESOLUTION)


def test_bfloat16_predictions():
    for task in ALL:
        predicted, target = random_case(task, 0)
        loss = task.loss(jnp.asarray(predicted, jnp.bfloat16), target)
        assert loss.dtype == jnp.float32
        np.testing.assert_allclose(loss, expected_loss(task, predicted, target), rtol=0.02)


def test_directions_of_metrics():
    assert dict(zip(SEGMENTATION.metric_names, SEGMENTATION.higher_is_better, strict=True)) == {
        "mIoU": True,
        "PAcc": True,
    }
    assert dict(zip(DEPTH.metric_names, DEPTH.higher_is_better, strict=True)) == {
        "AErr": False,
        "RErr": False,
    }
    assert NORMALS.higher_is_better == (False, False, True, True, True)
    assert CLASSIFICATION.higher_is_better == (True,)
