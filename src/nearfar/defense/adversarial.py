"""The defense that reconstruction is compared with: a classifier trained on adversarial images."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from nearfar.data import Images, require_labels
from nearfar.defense.attacks import seeded
from nearfar.defense.checks import check_epsilons
from nearfar.defense.classifiers import Classifier, pixels_of
from nearfar.errors import require
from nearfar.models import resolve_device

BATCH_SIZE = 128


def harden(
    classifier: Classifier, images: Images, *, epsilon: float, epochs: int, seed: int = 0
) -> Classifier:
    """Return a copy of a trained classifier, trained on adversarial images [1]_.

    Parameters
    ----------
    images : Images
        Labeled; what it was trained on.
    epsilon : float
        The largest change of a pixel, 0…1.
    epochs : int
        How often to go through the images.

    References
    ----------
    .. [1] E. Wong, L. Rice, J. Z. Kolter, "Fast is better than free: revisiting adversarial
       training", ICLR 2020.
    """
    check_epsilons([epsilon])
    classification = require("art.estimators.classification", extra="defense")
    trainers = require("art.defences.trainer", extra="defense")
    device = resolve_device("auto")
    hardened = copy.deepcopy(classifier).train().to(device)
    with seeded(seed):
        estimator = classification.PyTorchClassifier(
            hardened,
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD(hardened.parameters(), lr=0.1, momentum=0.9),
            input_shape=classifier.shape,
            nb_classes=classifier.classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if device.type == "cuda" else "cpu",
        )
        trainer = trainers.AdversarialTrainerFBFPyTorch(estimator, eps=epsilon)
        trainer.fit(
            pixels_of(images).numpy(),
            np.eye(classifier.classes, dtype=np.float32)[require_labels(images)],
            nb_epochs=epochs,
            batch_size=BATCH_SIZE,
        )
    return hardened.cpu().eval()
