"""Purifier inside ART."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

SHAPE = (1, 8, 8)

pytest.importorskip("art", reason="the extra `defense` is not installed")


def test_preprocessor_equals_defended_classifier(classifier, purifier, clean):
    from art.estimators.classification import PyTorchClassifier

    from nearfar.defense.preprocessor import PurifierPreprocessor

    inside = PyTorchClassifier(
        classifier,
        loss=nn.CrossEntropyLoss(),
        input_shape=SHAPE,
        nb_classes=10,
        clip_values=(0.0, 1.0),
        preprocessing_defences=PurifierPreprocessor(purifier),
        device_type="cpu",
    )
    pixels, labels = clean[0][:20].numpy(), clean[1][:20].numpy()
    defended = purifier.defend(classifier)
    with torch.no_grad():
        expected = defended(clean[0][:20]).numpy()
    np.testing.assert_allclose(inside.predict(pixels), expected, rtol=1e-4, atol=1e-4)
    variable = clean[0][:20].clone().requires_grad_()
    cross_entropy(defended(variable), clean[1][:20], reduction="sum").backward()
    found = inside.loss_gradient(pixels, np.eye(10, dtype=np.float32)[labels])
    ours = variable.grad.numpy()
    cosine = (found * ours).sum() / np.linalg.norm(found) / np.linalg.norm(ours)
    assert cosine > 0.999
