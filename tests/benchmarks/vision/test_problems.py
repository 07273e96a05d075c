"""The image sets as training sees them: what is specific to Office, and augmentation."""

import dataclasses
import functools

import chex
import jax
import numpy as np

from benchmarks.problems.dense import problem as dense
from benchmarks.problems.office.problem import OfficeProblem
from tests.benchmarks.vision.conftest import BATCH, FAST, KEY, data_config


def test_office_normalises_each_domain_by_itself(prepared):
    """The task gradients are a loop of `jax.grad`; statistics end as after T forwards in turn."""
    config = data_config("office31", prepared)
    problem = OfficeProblem("office31", config, 4)
    static, arrays = problem.batches("train")[0]
    batch = problem.read(static, arrays)
    # The domains as far apart as can be.
    batch["image"] = batch["image"] * np.array([1, 3, 9], np.float32).reshape(3, 1, 1, 1, 1)
    model = problem.multi_task
    params, stats = model.init(KEY)

    @functools.partial(jax.jit, compiler_options=FAST)
    def both(params, stats):
        answer = model.task_grads(params, stats, batch, KEY)
        return (
            answer,
            [
                jax.grad(lambda p, t=t: model.losses(p, stats, batch, KEY)[0][t])(params)
                for t in range(3)
            ],
            model.losses(params, stats, batch, KEY),
        )

    ((losses, after), grads), rows, (expected, expected_after) = both(params, stats)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    chex.assert_trees_all_close(after, expected_after, rtol=1e-4, atol=1e-6)
    for task, row in enumerate(rows):
        own = jax.tree.map(lambda g, task=task: g[task], grads[0])
        chex.assert_trees_all_close(own, row[0], rtol=1e-3, atol=1e-5)
        chex.assert_trees_all_close(grads[1][task], row[1][task], rtol=1e-3, atol=1e-6)
    # The first layer's mean is linear in the images: the last domain weighs most.
    kernel = params[0]["resnet"]["conv1"]["kernel"]
    means = [
        jax.lax.conv_general_dilated(
            images, kernel, (2, 2), ((3, 3), (3, 3)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        ).mean((0, 1, 2))
        for images in batch["image"]
    ]
    in_turn = sum(0.1 * 0.9 ** (2 - t) * mean for t, mean in enumerate(means))
    np.testing.assert_allclose(after[0]["resnet"]["bn1"]["mean"], in_turn, rtol=1e-3, atol=1e-5)


def test_single_task_networks_of_small_domains_stop_after_one_pass(prepared):
    problem = OfficeProblem("office31", data_config("office31", prepared), 4)
    first, second, third = problem._source.splits["train"]
    problem._source.splits["train"] = (first[:13], second[:4], third[:8])
    *_, active = zip(*(arrays for _, arrays in problem.batches("train")), strict=True)
    rows = [arrays[0] for _, arrays in problem.batches("train")]
    np.testing.assert_array_equal(active, [[1, 1, 1], [1, 0, 1], [1, 0, 0]])
    for t in range(3):
        seen = [i for row, on in zip(rows, active, strict=True) if on[t] for i in row[t]]
        assert len(seen) == len(set(seen)), "one pass: no image twice"
    static, arrays = problem.batches("train")[1]
    batch = problem.load((), static, problem.read(static, arrays))
    np.testing.assert_array_equal(problem.single_task.active(batch), [True, False, True])
    assert problem.multi_task.active is None
    assert all(arrays[2].all() for _, arrays in problem.batches("validation"))


def test_examples_of_office_are_spread_out(prepared):
    """A batch of the test set is sorted by class, and padded at its end."""
    problem = OfficeProblem("office31", data_config("office31", prepared), 8)
    labels = np.tile([0, 0, 1, 1, 2, 3, -1, -1], (3, 1))
    labels[1, 2:] = -1
    logits = [np.eye(31)[np.maximum(own, 0)] for own in labels]
    batch = {"image": np.zeros((3, 8, 4, 4, 3)), "label": labels}
    examples = problem.examples(logits, batch)
    assert [list(own) for own in examples.targets.values()] == [[0, 0, 1, 3], [0, 0], [0, 0, 1, 3]]
    chex.assert_trees_all_equal(examples.predictions, examples.targets)


def test_augmentation_changes_training_batches_alone(prepared):
    config = dataclasses.replace(data_config("nyuv2", prepared), augment=True)
    problem = dense.DenseProblem("nyuv2", config, BATCH)
    loaded = []
    for epoch in (0, 0, 1):
        static, arrays = problem.batches("train", epoch=epoch)[0]
        read = problem.read(static, (np.array([0, 1]), *arrays[1:]))
        loaded.append(problem.load((), static, read)["image"])
    np.testing.assert_array_equal(loaded[0], loaded[1])
    assert np.any(loaded[0] != loaded[2])
    static, arrays = problem.batches("test")[0]
    read = problem.read(static, arrays)
    chex.assert_trees_all_equal(problem.load((), static, read), read[0])
