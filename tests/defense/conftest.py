"""Digits, and networks trained on them, that all tests of defenses share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearfar.config import recipe
from nearfar.data import ArrayImages, Subset
from nearfar.defense import (
    Purifier,
    load_pixels,
    predict_classes,
    train_classifier,
)
from nearfar.training import train

SHAPE = (1, 8, 8)


@pytest.fixture(scope="session")
def images(digits, digit_labels):
    return ArrayImages(digits[:, None], digit_labels)


@pytest.fixture(scope="session")
def learned(images):
    return Subset(images, np.arange(1000))


@pytest.fixture(scope="session")
def clean(images):
    """Images that nothing is trained on, float[n, c, h, w], and their labels."""
    held_out = Subset(images, np.arange(1000, 1797))
    return load_pixels(held_out), torch.from_numpy(held_out.labels)


@pytest.fixture(scope="session")
def classifier(learned):
    return train_classifier("target", learned, epochs=40, device="cpu")


@pytest.fixture(scope="session")
def substitute(learned, classifier):
    few = Subset(learned, np.arange(150))
    labels = predict_classes(classifier, load_pixels(few))
    return train_classifier("substitute", few, epochs=150, labels=labels, device="cpu")


@pytest.fixture(scope="session")
def trained(learned):
    config = recipe(
        "paper",
        embedding_size=32,
        pretrain_epochs=30,
        epochs=2,
        batch_size=64,
        clusters=8,
        device="cpu",
    )
    return train(learned, config)


@pytest.fixture(scope="session")
def purifier(trained):
    return Purifier(trained.network, SHAPE)


@pytest.fixture(scope="session")
def reformer(trained):
    return Purifier(trained.initial, SHAPE)
