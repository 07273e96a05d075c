"""Two garments in one image, each to be classified: LeNet with two heads, in Flax NNX.

The garments are those of Fashion-MNIST, which the Debian package `dataset-fashion-mnist` has; or
name a folder with its four files, `python examples/multi_fashion.py FOLDER`. Without them the
script makes images of ten patterns and says so: those are easy, and show no more than that it runs.

Printed are the accuracies of both tasks on test images. The tasks are of one kind and scale, so no
method has much to win: with the garments, 1,000 steps and one seed, 79.0 % and 77.0 % with equal
weighting, 80.3 % and 77.3 % with DB-MTL. `python -m benchmarks compare multi_fashion` trains on
more images, of two classes each and with garments that move, as in the published protocol.
"""

import gzip
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import dbmtl_jax as dbmtl
from dbmtl_jax import nnx as mtl

FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
TASKS = ("top_left", "bottom_right")
LABELS = {"encoder": "shared", "heads": {name: name for name in TASKS}}


def read(folder, name):
    """Images [N, 28, 28] and labels [N] of one set."""
    files = (folder / f"{name}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    images, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    return images[16:].reshape(-1, 28, 28), labels[8:]


def make(seed, number=2000):
    """Images in the same form: ten patterns of dark and bright squares, with noise."""
    patterns = np.random.default_rng(0).integers(2, size=(10, 7, 7)).repeat(4, 1).repeat(4, 2)
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=number).astype(np.uint8)
    noise = rng.integers(-80, 80, size=(number, 28, 28))
    return np.uint8(np.clip(160 * patterns[labels] + noise, 0, 255)), labels


def pairs(images, labels, number, seed):
    """Images [number, 36, 36, 1] of two garments each, in opposite corners, and labels by name."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(len(labels), size=(2, number))
    both = np.zeros((number, 36, 36, 1), np.float32)
    both[:, :28, :28, 0] = images[first]
    both[:, 8:, 8:, 0] = np.maximum(both[:, 8:, 8:, 0], images[second])
    return both / 255 - 0.28, dict(zip(TASKS, (labels[first], labels[second]), strict=True))


class LeNet(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 10, (5, 5), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(10, 20, (5, 5), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(20 * 6 * 6, 50, rngs=rngs)

    def __call__(self, x):
        for conv in (self.conv1, self.conv2):
            x = nnx.relu(nnx.max_pool(conv(x), (2, 2), (2, 2)))
        return nnx.relu(self.hidden(x.reshape(len(x), -1)))


class Model(nnx.Module):
    def __init__(self, rngs):
        self.encoder = LeNet(rngs)
        self.heads = nnx.Dict({name: nnx.Linear(50, 10, rngs=rngs) for name in TASKS})

    def __call__(self, x):
        z = self.encoder(x)
        return {name: self.heads[name](z) for name in TASKS}


def losses_of(model, images, labels):
    logits, loss = model(images), optax.softmax_cross_entropy_with_integer_labels
    return {name: jnp.mean(loss(logits[name], labels[name])) for name in TASKS}


def train(method, images, labels, steps, batch=64):
    model = Model(nnx.Rngs(0))
    tx = dbmtl.chain(method(TASKS, labels=LABELS), optax.adam(1e-3))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    fun = mtl.value_and_task_grads(losses_of, labels=LABELS, stream=True)

    @nnx.jit
    def step(model, optimizer, images, labels):
        losses, grads = fun(model, images, labels)
        optimizer.update(model, grads, losses=losses)

    rng = np.random.default_rng(0)
    for _ in range(steps):
        rows = rng.integers(len(images), size=batch)
        step(model, optimizer, images[rows], {name: labels[name][rows] for name in TASKS})
    return model


def main(steps=1000, folder=FOLDER):
    """Returns each method's test accuracies by name of the task."""
    if folder.exists():
        print(f"garments of Fashion-MNIST from {folder}")
        train_set, test_set = read(folder, "train"), read(folder, "t10k")
    else:
        print(f"made images of patterns, as there is no {folder}")
        train_set, test_set = make(1), make(2)
    images, labels = pairs(*train_set, number=20_000, seed=1)
    test_images, test_labels = pairs(*test_set, number=2_000, seed=2)
    accuracies = {}
    for name, method in (("ew", dbmtl.ew), ("db_mtl", dbmtl.db_mtl)):
        logits = nnx.jit(train(method, images, labels, steps))(test_images)
        right = {task: logits[task].argmax(axis=1) == test_labels[task] for task in TASKS}
        accuracies[name] = {task: float(right[task].mean()) for task in TASKS}
        print(f"{name:7}", *(f"{task} {accuracies[name][task]:.1%}" for task in TASKS))
    return accuracies


if __name__ == "__main__":
    main(folder=pathlib.Path(*sys.argv[1:]) if sys.argv[1:] else FOLDER)
