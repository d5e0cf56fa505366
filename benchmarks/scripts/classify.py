"""Little work on many small files: decode an image, and classify it with a small network."""

import numpy as np
from PIL import Image

SIDE, HIDDEN, CLASSES = 28, 32, 10
network: tuple[np.ndarray, np.ndarray]


def init() -> None:
    """Makes the network: two layers of fixed random weights."""
    global network  # noqa: PLW0603 - an entry script keeps its model in a module global
    random = np.random.default_rng(0)
    first = random.normal(size=(SIDE * SIDE, HIDDEN)).astype(np.float32)
    network = first, random.normal(size=(HIDDEN, CLASSES)).astype(np.float32)


def run(mini_batch: list[str]) -> list[str]:
    """For each mini-batch, a list of paths of grey images of 28 x 28: name and class of each."""
    pixels = np.stack([np.asarray(Image.open(path), dtype=np.float32).ravel() for path in mini_batch])
    first, second = network
    classes = (np.maximum((pixels - 127) @ first, 0) @ second).argmax(axis=1)
    return [f"{path.rpartition('/')[2]},{found}" for path, found in zip(mini_batch, classes.tolist(), strict=True)]
