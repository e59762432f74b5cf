"""Adversarial training of a classifier."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from nearfar.data import Images, require_labels
from nearfar.defense.attacks import seed_art
from nearfar.defense.checks import check_epsilons
from nearfar.defense.classifiers import Classifier, load_pixels
from nearfar.errors import require
from nearfar.models import resolve_device

_BATCH_SIZE = 128


def train_adversarially(
    classifier: Classifier, images: Images, *, epsilon: float, epochs: int, seed: int = 0
) -> Classifier:
    """Return a copy of a classifier that was trained further on adversarial images [1]_.

    Parameters
    ----------
    classifier : Classifier
        Trained classifier.
    images : Images
        Labeled training images.
    epsilon : float
        Maximum change per pixel, ε, in (0, 1].
    epochs : int
        Passes over the images.
    seed : int
        Random seed for the image order and the perturbations.

    Returns
    -------
    Classifier
        The new classifier, in evaluation mode and on the CPU.

    Raises
    ------
    NearfarError
        If `epsilon` is out of range, or the images have no labels.

    References
    ----------
    .. [1] E. Wong, L. Rice, J. Z. Kolter, "Fast is better than free: revisiting adversarial
       training", ICLR 2020.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8), np.arange(20) % 2)
    >>> classifier = Classifier("substitute", (1, 8, 8), 2)
    >>> robust = train_adversarially(classifier, images, epsilon=0.1, epochs=1)
    """
    check_epsilons([epsilon])
    classification = require("art.estimators.classification", extra="defense")
    trainers = require("art.defences.trainer", extra="defense")
    device = resolve_device("auto")
    robust = copy.deepcopy(classifier).train().to(device)
    with seed_art(seed):
        estimator = classification.PyTorchClassifier(
            robust,
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD(robust.parameters(), lr=0.1, momentum=0.9),
            input_shape=classifier.shape,
            nb_classes=classifier.num_classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if device.type == "cuda" else "cpu",
        )
        trainer = trainers.AdversarialTrainerFBFPyTorch(estimator, eps=epsilon)
        trainer.fit(
            load_pixels(images).numpy(),
            np.eye(classifier.num_classes, dtype=np.float32)[require_labels(images)],
            nb_epochs=epochs,
            batch_size=_BATCH_SIZE,
        )
    return robust.cpu().eval()
