import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.data import augment as a
from benchmarks.data.sample import rooms

HEIGHT, WIDTH = 30, 40


@pytest.fixture(scope="module")
def batch():
    rooms_ = [rooms.room(np.random.default_rng(seed), HEIGHT, WIDTH) for seed in range(4)]
    stacked = {name: np.stack([room[name] for room in rooms_]) for name in rooms_[0]}
    return stacked | {"label": stacked["label"].astype(np.int32)}


def one(batch, i=0):
    return {name: jnp.asarray(array[i]) for name, array in batch.items()}


def test_scale_one_is_the_identity(batch):
    same = a.crop(one(batch), jnp.int32(0), jnp.array([0.3, 0.9]))
    for name, array in one(batch).items():
        np.testing.assert_allclose(same[name], array, atol=1e-6)


def test_flip_twice_is_the_identity(batch):
    once = a.flip(batch)
    for name, array in a.flip(once).items():
        np.testing.assert_array_equal(array, batch[name])
    np.testing.assert_array_equal(once["label"], batch["label"][:, :, ::-1])
    np.testing.assert_array_equal(once["normal"][..., 0], -batch["normal"][:, :, ::-1, 0])
    np.testing.assert_array_equal(once["normal"][..., 1:], batch["normal"][:, :, ::-1, 1:])
    np.testing.assert_array_equal(once["depth"], batch["depth"][:, :, ::-1])
    # A mirrored scene is a scene: normals still face the camera.
    x = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / (rooms._FOCAL * WIDTH)
    y = (HEIGHT / 2 - np.arange(HEIGHT) - 0.5) / (rooms._FOCAL * WIDTH)
    ray = np.stack(np.broadcast_arrays(x, y[:, None], -1.0), -1)
    assert (np.asarray(once["normal"]) * ray).sum(-1).max() < 1e-4


@pytest.mark.parametrize(("which", "scale"), [(1, 1.2), (2, 1.5)])
@pytest.mark.parametrize("place", [(0.0, 0.0), (0.999999, 0.999999), (0.5, 0.2)])
def test_crop_against_numpy(batch, which, scale, place):
    sample = one(batch, 1)
    h, w = int(HEIGHT / scale), int(WIDTH / scale)
    top, left = int(place[0] * (HEIGHT - h + 1)), int(place[1] * (WIDTH - w + 1))
    result = a.crop(sample, jnp.int32(which), jnp.array(place))

    part = {k: np.asarray(v)[top : top + h, left : left + w] for k, v in sample.items()}
    rows, columns = np.arange(HEIGHT) * h // HEIGHT, np.arange(WIDTH) * w // WIDTH
    nearest = np.ix_(rows, columns)
    np.testing.assert_array_equal(result["label"], part["label"][nearest])
    np.testing.assert_allclose(result["depth"], part["depth"][nearest] / scale, rtol=1e-6)

    # Bilinear, corners on corners, by interpolating rows and then columns.
    def interpolate(x):
        y = np.linspace(0, h - 1, HEIGHT)
        x = np.stack([[np.interp(y, np.arange(h), x[:, j, c]) for c in range(3)] for j in range(w)])
        z = np.linspace(0, w - 1, WIDTH)
        return np.stack(
            [[np.interp(z, np.arange(w), x[:, c, i]) for c in range(3)] for i in range(HEIGHT)]
        ).transpose(0, 2, 1)

    np.testing.assert_allclose(result["image"], interpolate(part["image"]), atol=1e-5)
    normal = interpolate(part["normal"])
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    clear = length[..., 0] > 0.05
    np.testing.assert_allclose(
        result["normal"][clear], (normal / np.maximum(length, 1e-9))[clear], atol=1e-3
    )


def test_augmented_batch_is_valid(batch):
    augment = jax.jit(a.augment)
    for seed in range(3):
        result = augment(jax.random.key(seed), batch)
        for name, array in batch.items():
            assert result[name].shape == array.shape
            assert result[name].dtype == array.dtype
        for i in range(len(batch["label"])):
            assert set(np.unique(result["label"][i])) <= set(np.unique(batch["label"][i]))
            assert result["depth"][i].max() <= batch["depth"][i].max() + 1e-6
        length = np.linalg.norm(result["normal"], axis=-1)
        np.testing.assert_allclose(length[length > 0], 1, atol=1e-5)
        assert (length > 0).mean() > 0.5


def test_key_decides_and_samples_differ(batch):
    same = {name: np.repeat(array[:1], 16, axis=0) for name, array in batch.items()}
    first = a.augment(jax.random.key(0), same)
    again, other = a.augment(jax.random.key(0), same), a.augment(jax.random.key(1), same)
    np.testing.assert_array_equal(first["image"], again["image"])
    assert (first["image"] != other["image"]).any()
    assert len({array.tobytes() for array in np.asarray(first["image"])}) > 8
    # All scales and both directions occur.
    original = np.sort(np.unique(same["depth"]))[1:]
    ratios = [original.max() / d.max() for d in np.asarray(first["depth"])]
    assert max(ratios) > 1.4


def test_without_normals(batch):
    two_tasks = {name: array for name, array in batch.items() if name != "normal"}
    result = a.augment(jax.random.key(0), two_tasks)
    assert set(result) == {"image", "label", "depth"}
