"""A Fashion-MNIST of sixty garments, and its files."""

import gzip
import pathlib
import struct

import numpy as np

from benchmarks.problems.multi_fashion import data
from benchmarks.problems.multi_fashion.settings import MultiFashionConfig

TINY = MultiFashionConfig(
    train_size=50, validation_size=9, test_size=7, width=2, blocks=(1, 1, 1, 1)
)


def garments(count, seed=0):
    """Garments whose brightness is their class, with their number in the upper left corner."""
    labels = (np.arange(count) + seed) % 10
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 4:24, 4:24] = 20 * labels[:, None, None] + 40
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) + 1, seed + 1
    return data.Garments(images, labels.astype(np.uint8))


FASHION = data.FashionMNIST(garments(40), garments(20, seed=7))


def write(folder: pathlib.Path, fashion=FASHION, packed=gzip.compress):
    folder.mkdir(exist_ok=True)
    for name, own in zip(("train", "t10k"), fashion, strict=True):
        for kind, array in (("images-idx3", own.images), ("labels-idx1", own.labels)):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            suffix = ".gz" if packed is gzip.compress else ""
            path = folder / f"{name}-{kind}-ubyte{suffix}"
            path.write_bytes(packed(head + array.tobytes()))
    return folder
