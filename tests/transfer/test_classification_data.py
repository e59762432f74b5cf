"""Sets of labeled images: splits, few labels, devkits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nearfar.data import open_images, require_labels
from nearfar.errors import NearfarError
from nearfar.transfer import (
    ClassificationSet,
    split_labeled_images,
    subsample_per_class,
    write_classes,
)
from nearfar.transfer.synthetic_devkit import SHAPES


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("shapes"), 20)


def labeled(folder) -> tuple[ClassificationSet, ClassificationSet]:
    return split_labeled_images(open_images(folder, size=64, channels=3))


def test_subsample_per_class():
    labels = np.array([0] * 10 + [1] * 3 + [2] * 10)
    rows = np.arange(0, 23)
    chosen = subsample_per_class(labels, rows, 5, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [5, 3, 5]
    assert not np.array_equal(chosen, subsample_per_class(labels, rows, 5, seed=1))
    with pytest.raises(NearfarError, match="labels_per_class=0"):
        subsample_per_class(labels, rows, 0, seed=0)


def test_split_matches_classes_by_name(shapes, tmp_path):
    only = tmp_path / "test" / "triangle"
    only.mkdir(parents=True)
    Image.open(shapes / "triangle" / "0000.jpg").save(only / "a.png")
    tested = open_images(tmp_path / "test", size=64, channels=3)
    for _ in range(2):  # what is given stays as it is
        train, test = split_labeled_images(open_images(shapes, size=64), tested, labels_per_class=2)
        assert test.presence.tolist() == [[-1, -1, 1]]
    assert tested.classes == ["triangle"]
    assert (train.presence == 1).sum(0).tolist() == [2, 2, 2]
    assert list(train.classes) == sorted(SHAPES)


@pytest.mark.parametrize("numbers", [(1, 2), (-1, 0, 1), (7, 2_000_000)])
def test_split_takes_any_class_numbers(tmp_path, numbers):
    labels = np.array([numbers[i % len(numbers)] for i in range(20)])
    images = np.zeros((20, 64, 64), np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    np.savez(tmp_path / "test.npz", images=images[:4], labels=labels[:4])
    train, test = split_labeled_images(
        *(open_images(tmp_path / f"{name}.npz") for name in ("train", "test"))
    )
    assert list(train.classes) == list(test.classes) == [str(number) for number in numbers]
    named = [train.classes[column] for column in test.presence.argmax(1)]
    assert named == [str(label) for label in labels[:4]]


def test_split_raises_for_unknown_classes(tmp_path):
    images = np.zeros((20, 64, 64), np.uint8)
    for name, classes in (("train", 3), ("test", 5), ("one", 1)):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(20) % classes)
    with pytest.raises(NearfarError, match="has the class '3'"):
        split_labeled_images(*(open_images(tmp_path / f"{name}.npz") for name in ("train", "test")))
    with pytest.raises(NearfarError, match="are of one class"):
        split_labeled_images(open_images(tmp_path / "one.npz"))


def test_split_holds_out_a_fifth_per_class(shapes):
    train, test = labeled(shapes)
    images = open_images(shapes, size=64)
    assert (test.presence == 1).sum(0).tolist() == [4, 4, 4]
    assert len(train.images) + len(test.images) == len(require_labels(images))
