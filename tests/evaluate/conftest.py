"""A small source in memory and an encoder that counts, for all evaluators."""

import dataclasses

import numpy as np
import pytest


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
    """Images and labels as they are."""

    images: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        record = {"image": self.images[index], "index": np.int32(index)}
        if self.labels is not None:
            record["label"] = np.int32(self.labels[index])
        return record


class Flatten:
    """Pixels as features, and their negatives as another layer; keeps what it saw."""

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        images = np.asarray(images)
        self.batches.append(images)
        flat = images.reshape(len(images), -1)
        return {"features": flat, "projected": -flat}


@pytest.fixture
def in_memory():
    """The class of sources."""
    return InMemory


@pytest.fixture
def encode():
    """A fresh encoder."""
    return Flatten()


@pytest.fixture
def fresh_encode():
    """The class of encoders, for tests that need two."""
    return Flatten


@pytest.fixture
def blobs():
    """Makes a source of images that lie around one prototype per class."""

    def make(count, *, classes=3, seed=0, noise=8.0, side=3):
        prototypes = np.random.default_rng(99).uniform(
            60, 195, (classes, side, side, 1)
        )
        random = np.random.default_rng(seed)
        labels = random.permutation(np.arange(count) % classes)
        images = prototypes[labels] + noise * random.normal(size=(count, side, side, 1))
        images = np.clip(np.round(images), 0, 255).astype(np.uint8)
        return InMemory(images, labels, tuple("abcdefgh"[:classes]))

    return make
