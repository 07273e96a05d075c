"""Pictures of inputs, truths and predictions: what is grey, what has which colour."""

import numpy as np
import pytest

from benchmarks.data import source, specs
from benchmarks.report.figures import pictures

GREY = (0.6, 0.6, 0.6)
RNG = np.random.default_rng(0)


def pixels(figure, title):
    """The first picture of a column."""
    (axis,) = [axis for axis in figure.axes if axis.get_title() == title]
    return np.asarray(axis.images[0].get_array())


@pytest.fixture
def rooms():
    label = RNG.integers(0, 13, (2, 6, 8))
    depth = RNG.uniform(1, 5, (2, 6, 8, 1))
    normals = RNG.normal(size=(2, 6, 8, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    label[0, 0, 0], depth[0, 0, 0], normals[0, 0, 0] = -1, 0, 0
    return RNG.uniform(size=(2, 6, 8, 3)), {
        "segmentation": label, "depth": depth, "normals": normals,
    }  # fmt: skip


def test_unknown_is_grey_in_the_truth_alone(rooms):
    image, targets = rooms
    predictions = {k: np.where(v == v[0, 0, 0], 1, v) for k, v in targets.items()}
    figure = pictures.dense(image, targets, predictions, specs.DENSE["nyuv2"].classes)
    assert len([axis for axis in figure.axes if axis.images]) == 2 * 7
    for task in targets:
        truth, prediction = (
            pixels(figure, f"{task}: {which}") for which in ("truth", "prediction")
        )
        np.testing.assert_allclose(truth[0, 0], GREY)
        assert np.abs(prediction[0, 0] - GREY).max() > 0.05
        np.testing.assert_allclose(truth[1:], prediction[1:])
    np.testing.assert_allclose(pixels(figure, "input"), image[0])
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [*specs.DENSE["nyuv2"].classes, "not known"]
    assert "depth (m)" in {axis.get_xlabel() for axis in figure.axes}


def test_classes_have_colours_of_their_own():
    for count in (7, 13, 31, 65):
        colours = pictures.class_colours(np.arange(count), count)
        assert len(np.unique(colours.round(3), axis=0)) == count
    assert np.abs(pictures.class_colours(np.arange(13), 13) - GREY).max(-1).min() > 0.2


def test_logits_and_normals_of_any_length(rooms):
    image, targets = rooms
    logits = np.eye(13)[np.maximum(targets["segmentation"], 0)]
    predictions = targets | {"segmentation": logits, "normals": 3 * targets["normals"]}
    figure = pictures.dense(image, targets, predictions)
    for task in ("segmentation", "normals"):
        truth, prediction = (
            pixels(figure, f"{task}: {which}") for which in ("truth", "prediction")
        )
        np.testing.assert_allclose(truth[1:], prediction[1:])
    np.testing.assert_allclose(pictures.normal_colours([0, 0, 5]), [0.5, 0.5, 1])


def test_office_names_what_is_right_and_wrong():
    images = {"amazon": RNG.uniform(size=(2, 4, 4, 3)), "dslr": RNG.uniform(size=(1, 4, 4, 3))}
    targets = {"amazon": [0, 1], "dslr": [1]}
    predictions = {"amazon": [0, 0], "dslr": np.eye(2)[[1]]}
    figure = pictures.office(images, targets, predictions, ["back_pack", "mug"])
    texts = [axis.get_xlabel() for axis in figure.axes if axis.images]
    assert texts == ["✓ back pack", "✗ back pack\n(true: mug)", "✓ mug"]


def test_normalised_images_are_shown_as_they_were():
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = RNG.uniform(size=(3, 4, 3))
    np.testing.assert_allclose(source.undo_normalisation((image - mean) / std), image, atol=1e-6)
