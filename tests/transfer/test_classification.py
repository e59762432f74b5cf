"""Fine-tuned classifiers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from devkits import BACKBONE
from nearfar.config import Backbone
from nearfar.data import images_from_array, open_images, require_labels
from nearfar.errors import NearfarError
from nearfar.transfer import (
    ClassificationSet,
    FinetuneConfig,
    classification_metrics,
    finetune_classifier,
    new_backbone,
    open_classification_set,
    single_label_set,
    split_labeled_images,
    write_classes,
)
from nearfar.transfer.classification import augment
from nearfar.transfer.finetuning import finetune_network


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("shapes"), 20)


def classify(backbone, train, test, protocol, config):
    """Scores of a classifier after fine-tuning."""
    model = finetune_classifier(backbone, train, protocol, config, device="cpu")
    return model.scores(test.images)


def labeled(folder) -> tuple[ClassificationSet, ClassificationSet]:
    return split_labeled_images(open_images(folder, size=64, channels=3))


def test_protocol_decides_which_weights_train(shapes, monkeypatch):
    train, test = labeled(shapes)
    seen = {}
    import nearfar.transfer.classification as module

    def watched(network, *arguments):
        before = {k: v.clone() for k, v in network.state_dict().items()}
        finetune_network(network, *arguments)
        after = network.state_dict()
        seen["moved"] = {k for k in before if not torch.equal(before[k], after[k])}

    monkeypatch.setattr(module, "finetune_network", watched)
    backbone = new_backbone(*BACKBONE)
    weights = {k: v.clone() for k, v in backbone.state_dict().items()}
    config = FinetuneConfig(steps=2, batch_size=8, lr=1e-3)
    for protocol in ("fc", "all"):
        classify(backbone, train, test, protocol, config)
        features = {name for name in seen["moved"] if ".features." in name}
        assert bool(features) == (protocol == "all")
        assert {"backbone.head.fc6.weight", "fc8.weight"} <= seen["moved"]
    # The caller's backbone stays as it is.
    assert all(torch.equal(weights[k], v) for k, v in backbone.state_dict().items())


def test_frozen_features_keep_batch_statistics(shapes, monkeypatch):
    import nearfar.transfer.classification as module

    train, test = labeled(shapes)
    kept = {}

    def watched(network, *arguments):
        finetune_network(network, *arguments)
        kept["mean"] = network.backbone.features.bn1.running_mean.clone()

    monkeypatch.setattr(module, "finetune_network", watched)
    backbone = new_backbone(Backbone(name="timm:resnet18", embedding_size=512), (3, 64, 64))
    classify(backbone, train, test, "fc", FinetuneConfig(steps=1, batch_size=4))
    assert torch.equal(kept["mean"], backbone.features.bn1.running_mean)


@pytest.mark.slow
def test_classifier_learns_shapes(tmp_path):
    train, test = labeled(write_classes(tmp_path, 100))
    config = FinetuneConfig(steps=400, batch_size=16, lr=1e-3)
    scores = classify(new_backbone(*BACKBONE), train, test, "all", config)
    assert classification_metrics(scores, test)["accuracy"] > 0.6


def test_linear_protocol_separates_separable_embeddings():
    pixels = np.zeros((60, 64, 64, 3), np.uint8)
    labels = np.arange(60) % 3
    pixels[np.arange(60), :, :, labels] = 255
    images = images_from_array(pixels, labels)
    rows = np.arange(60)
    train, test = (
        single_label_set(images, labels, rows[:30]),
        single_label_set(images, labels, rows[30:]),
    )
    backbone = new_backbone(*BACKBONE)
    assert classify(backbone, train, test, "linear", FinetuneConfig()).shape == (30, 3)
    scores = classify(backbone, train, test, "linear", FinetuneConfig())
    assert classification_metrics(scores, test) == {"accuracy": 1.0}
    # The same as questions of yes and no, one of which is left open for some images.
    seen = train.presence.copy()
    seen[:3] = 0
    several = ClassificationSet(train.images, seen, train.classes, single_label=False)
    asked = ClassificationSet(test.images, test.presence, test.classes, single_label=False)
    scores = classify(backbone, several, asked, "linear", FinetuneConfig())
    assert classification_metrics(scores, asked) == {"mAP, 11 points": 1.0, "mAP, all points": 1.0}


def test_ignored_images_change_nothing(devkit):
    everything = open_classification_set(devkit, "train", 64)
    nothing = ClassificationSet(
        everything.images,
        np.zeros_like(everything.presence),
        everything.classes,
        single_label=False,
    )
    config = FinetuneConfig(steps=2, batch_size=4, weight_decay=0.0)
    scores = classify(new_backbone(*BACKBONE), nothing, everything, "all", config)
    assert (scores == 0).all()


def test_augment_mirrors_and_shifts():
    torch.manual_seed(0)
    ramp = torch.arange(64.0).expand(1, 64, 64)
    views = augment(ramp.repeat(40, 1, 1, 1))
    assert views.shape == (40, 1, 64, 64)
    middle = views[:, 0, 32]
    shifts = {float(row[32]) for row in middle}
    assert len(shifts) > 5
    assert all(23 <= shift <= 41 for shift in shifts)
    rising = (middle[:, 40] > middle[:, 24]).float().mean()
    assert 0.2 < rising < 0.8


def test_linear_protocol_never_predicts_absent_classes(shapes):
    images = open_images(shapes, size=64, channels=3)
    labels = require_labels(images)
    rows = np.flatnonzero(labels < 2)
    train, test = (
        single_label_set(images, labels, rows),
        single_label_set(images, labels, np.arange(len(images))),
    )
    scores = classify(new_backbone(*BACKBONE), train, test, "linear", FinetuneConfig(steps=1))
    assert scores.shape == (len(images), 3)
    assert (scores[rows].argmax(1) == labels[rows]).mean() > 0.7
    assert (scores.argmax(1) < 2).all(), "nothing is taken for a class that was never seen"


def test_classifier_raises_for_small_images(shapes):
    train, test = split_labeled_images(open_images(shapes, size=16))
    for protocol in ("linear", "all"):
        with pytest.raises(NearfarError, match="16x16 pixels are too small"):
            classify(
                new_backbone(*BACKBONE),
                train,
                test,
                protocol,
                FinetuneConfig(steps=1),
            )


def test_classifier_raises_for_batches_of_one_small_image(shapes):
    train, test = split_labeled_images(open_images(shapes, size=32))
    backbone = new_backbone(Backbone(name="timm:resnet18", embedding_size=512), (3, 32, 32))
    alone = FinetuneConfig(steps=1, batch_size=1)
    with pytest.raises(NearfarError, match="a single image of 32x32 pixels"):
        classify(backbone, train, test, "all", alone)
    classify(backbone, train, test, "fc", alone)
    train, test = split_labeled_images(open_images(shapes, size=16))
    with pytest.raises(NearfarError, match="expected 32 or more"):
        classify(backbone, train, test, "fc", alone)
