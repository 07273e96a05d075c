"""What is rendered must be true to itself: depth, normals and classes of one scene."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.config import MakeSample
from benchmarks.data import mark
from benchmarks.data.sample import domains, objects, rooms, streets
from benchmarks.data.sample.render import Camera, Light, Solid, render
from benchmarks.data.sample.textures import Texture
from benchmarks.errors import UserError
from tests.benchmarks.data.conftest import SIZE, run

GREY = Texture((0.5, 0.5, 0.5))
LAMP = Light(0.5, 0.5, (0.0, 5.0, 5.0), False)
FOCAL = 0.8


def one(solid: Solid, camera: Camera):
    """A picture of one solid, with the camera coordinates [H, W, 3] of what each pixel sees."""
    height, width = 120, 160
    picture = render([solid], camera, LAMP, height, width)
    return picture, points_of(picture.depth, camera.focal)


def points_of(depth: np.ndarray, focal: float) -> np.ndarray:
    """Pin-hole camera, centre of the image in its middle; x right, y up, z towards the viewer."""
    height, width = depth.shape
    x = (np.arange(width) + 0.5 - width / 2) / (focal * width)
    y = (height / 2 - np.arange(height) - 0.5) / (focal * width)
    return depth[..., None] * np.stack(np.broadcast_arrays(x, y[:, None], -1.0), -1)


CAMERA = Camera((0, 0, 0), 0.0, 0.0, FOCAL)


def test_sphere():
    picture, points = one(Solid("sphere", (0.3, -0.2, -4), (1, 1, 1), 5, GREY), CAMERA)
    seen = picture.label == 5
    centre = np.array([0.3, -0.2, -4])
    np.testing.assert_allclose(np.linalg.norm(points[seen] - centre, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(picture.normal[seen], points[seen] - centre, atol=1e-4)
    # The near side of it; and about as many pixels as a disc of that size has.
    assert (points[seen] * picture.normal[seen]).sum(1).max() < 0
    assert abs(seen.sum() / (np.pi * (FOCAL * 160 / 4) ** 2) - 1) < 0.1
    assert (picture.depth[~seen] == 0).all()
    assert (picture.normal[~seen] == 0).all()
    assert (picture.label[~seen] == -1).all()


@pytest.mark.parametrize(
    ("shape", "radius"), [("cylinder", lambda y: 1 + 0 * y), ("cone", lambda y: (1 - y) / 2)]
)
def test_cylinder_and_cone(shape, radius):
    solid = Solid(shape, (0, -1.0, -4), (0.5, 0.8, 0.5), 3, GREY)
    picture, points = one(solid, CAMERA)
    seen = picture.label == 3
    local = (points[seen] - solid.centre) / solid.half
    side = np.abs(np.hypot(local[:, 0], local[:, 2]) - radius(local[:, 1])) < 1e-3
    top = np.abs(local[:, 1] - 1) < 1e-3
    assert (side | top).all()
    assert side.sum() > 50
    if shape == "cylinder":  # seen from above
        assert top.sum() > 20
        np.testing.assert_allclose(
            picture.normal[seen][top & ~side], [[0, 1, 0]] * (top & ~side).sum()
        )
    assert_normals_follow_depth(picture.normal, points, seen & (picture.depth > 0), share=0.6)


def test_box_from_an_angle():
    camera = Camera((1.5, 2.0, 1.0), 0.3, -0.4, FOCAL)
    solid = Solid("box", (0.5, 0.3, -3), (0.7, 0.5, 0.4), 2, GREY, yaw=0.7)
    picture, points = one(solid, camera)
    faces = np.unique(np.round(picture.normal[picture.label == 2], 3), axis=0)
    assert len(faces) == 3
    np.testing.assert_allclose(faces @ faces.T, np.eye(3), atol=2e-3)
    assert_normals_follow_depth(picture.normal, points, picture.label == 2, share=0.8)


def assert_normals_follow_depth(normal, points, seen, share):
    """Where the surface is smooth, its normal is perpendicular to the way to the next pixels."""
    right, down = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
    across = np.cross(down, right)
    across /= np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-12)
    inside = seen[:-1, :-1] & seen[1:, :-1] & seen[:-1, 1:]
    cosine = (across * normal[:-1, :-1]).sum(-1)[inside]
    assert (cosine > 0.995).mean() > share, np.percentile(cosine, [1, 5, 20, 50])


def test_room():
    labels = set()
    for seed in range(4):
        sample = rooms.room(np.random.default_rng(seed), 96, 128)
        image, label, depth, normal = (sample[k] for k in ("image", "label", "depth", "normal"))
        assert image.shape == normal.shape == (96, 128, 3)
        assert label.shape == (96, 128)
        assert depth.shape == (96, 128, 1)
        assert 0 <= image.min() <= image.max() <= 1
        labels |= set(np.unique(label))
        known = depth[..., 0] > 0
        assert 0.5 < known.mean() < 1
        assert depth.max() < 9
        np.testing.assert_allclose(np.linalg.norm(normal[known], axis=1), 1, atol=1e-5)
        assert (normal[~known] == 0).all()
        points = points_of(depth[..., 0], rooms._FOCAL)
        assert (normal[known] * points[known]).sum(1).max() < 1e-4  # all face the camera
        assert_normals_follow_depth(normal, points, known, share=0.75)
    assert labels <= set(range(-1, 13))
    assert len(labels) > 9


def test_street():
    labels = set()
    for seed in range(3):
        sample = streets.street(np.random.default_rng(seed), 64, 128)
        label, stored = sample["label"], sample["depth"][..., 0] * 65535
        labels |= set(np.unique(label))
        np.testing.assert_allclose(stored, np.round(stored), atol=5e-3)  # 16 bits
        assert (stored[label == streets.SKY] == 0).all()
        assert (stored[label == streets.VOID] == 0).all()
        # What is not on the pavement or a dash lies on the level of the road.
        pitch = streets.scene(np.random.default_rng(seed))[1].pitch
        down = (np.arange(64) + 0.5 - 32) / (streets._FOCAL * 128)
        metres = 1.25 / (np.cos(pitch) * down - np.sin(pitch))
        flat = (label == streets.FLAT) & (stored > 0)
        flat[:40] = False  # far away a step of the 16 bits is more than the tolerance
        rows, _ = np.nonzero(flat)
        ratio = (stored[flat] - 1) / 256 * metres[rows] / streets._DISPARITY_AT_1M
        assert (np.abs(ratio - 1) < 0.01).mean() > 0.6
    assert labels == set(range(-1, 7))


def test_seed_decides(tmp_path):
    def files(name, seed, train):
        run(MakeSample("nyuv2", tmp_path / name, train, 1, seed, *SIZE))
        paths = sorted((tmp_path / name).rglob("*.npy"))
        return {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in paths}

    first, more, other = files("a", 0, 1), files("b", 0, 2), files("c", 1, 1)
    assert len(first) == 8
    assert first == {name: more[name] for name in first}
    assert all(first[name] != other[name] for name in first)
    assert mark.read(tmp_path / "c", "nyuv2") == mark.SampleMark("nyuv2", SIZE, 1)
    with pytest.raises(UserError, match="is there already"):
        files("a", 0, 1)


def test_office_classes_and_domains(sample):
    for domain in ("amazon", "dslr", "webcam"):
        folders = {p.name for p in (sample / "office31" / domain / "images").iterdir()}
        assert folders == set(objects.class_names(31))
    path = next((sample / "office31/amazon/images").glob("*/*"))
    assert path.suffix == ".jpg"
    with Image.open(path) as image:
        assert image.format == "JPEG"
    assert len(set(objects.class_names(65))) == 65


def test_domains_differ_and_hold_the_same_objects():
    def pictures(domain):
        rngs = [np.random.default_rng(seed) for seed in range(4)]
        return np.stack([domains.picture_of(domain, "plain_cube", r, 64, 64) for r in rngs])

    by_name = {d: pictures(d) for d in ("Art", "Clipart", "Product", "Real_World", "webcam")}

    border = {d: images[:, 0].mean() for d, images in by_name.items()}
    assert border["Product"] > 0.99  # white
    assert border["Real_World"] < 0.9
    flat = [
        len(np.unique(np.round(image, 3).reshape(-1, 3), axis=0)) for image in by_name["Clipart"]
    ]
    assert max(flat) < 2000
    assert np.ptp(by_name["webcam"]) < 0.85 * np.ptp(by_name["Real_World"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dataset": "office31", "train": 20, "test": 10}, "one for each of the 31 classes"),
        ({"dataset": "nyuv2", "train": 0}, "at least 1"),
        ({"dataset": "nyuv2", "height": 4}, "at least 8"),
    ],
)
def test_bad_options(tmp_path, options, expected):
    with pytest.raises(UserError, match=expected):
        run(MakeSample(out=tmp_path / "x", **options))
    assert not (tmp_path / "x").exists()
