"""Robustness of a defense: accuracy under attack, and a gradient masking check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nearfar.defense.attacks import attack
from nearfar.defense.defended import REJECTED, DefendedClassifier
from nearfar.defense.threats import Threat
from nearfar.errors import NearfarError
from nearfar.randomness import own_random_numbers

#: ε of the gradient masking check: at 0.5, an attack can turn any image gray.
_LARGE_EPSILONS = (0.3, 0.5, 1.0)
#: Standard errors above the frequency of the most frequent class that still count as chance.
_STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Outcome:
    """Accuracy and rejection rate of a defended classifier.

    Parameters
    ----------
    accuracy : float
        Fraction of images accepted and classified correctly.
    rejected : float
        Fraction of images rejected by a detector.
    images : int
        Number of images.

    Examples
    --------
    >>> Outcome(accuracy=0.5, rejected=0.25, images=200).defended
    0.75
    """

    accuracy: float
    rejected: float
    images: int

    @property
    def defended(self) -> float:
        """Fraction of adversarial images that were rejected or classified correctly."""
        return self.accuracy + self.rejected


def evaluate_defense(defended: DefendedClassifier, images: Tensor, labels: Tensor) -> Outcome:
    """Return the accuracy and the rejection rate of a defended classifier on images.

    Parameters
    ----------
    defended : DefendedClassifier
        Classifier and its defense.
    images : float[n, c, h, w]
        Clean or adversarial images, with values in [0, 1].
    labels : int64[n]
        Classes of the images.

    Examples
    --------
    >>> defended = DefendedClassifier(nn.Identity(), nn.Flatten())
    >>> images = torch.eye(4).view(4, 4, 1, 1)
    >>> evaluate_defense(defended, images, torch.tensor([0, 1, 2, 2]))
    Outcome(accuracy=0.75, rejected=0.0, images=4)
    """
    predicted = defended.predict(images)
    correct, rejected = predicted == labels.cpu(), predicted == REJECTED
    return Outcome(float(correct.double().mean()), float(rejected.double().mean()), len(images))


def security_curve(
    name: str,
    threat: Threat,
    defended: DefendedClassifier,
    images: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    *,
    substitute: nn.Module | None = None,
    seed: int = 0,
) -> list[Outcome]:
    """Attack a defended classifier, and return the outcome for each ε.

    A randomized defense draws new random numbers for each ε.

    Parameters
    ----------
    name, threat, defended, images, labels, epsilons, substitute
        See `attack`.
    seed : int
        Random seed for the attack and for a randomized defense.

    Returns
    -------
    list of Outcome
        Outcome for each ε, in the order of `epsilons`.

    Raises
    ------
    NearfarError
        See `attack`.

    Examples
    --------
    >>> defended = DefendedClassifier(nn.Identity(), nn.Flatten())
    >>> images, labels = torch.eye(4).view(4, 4, 1, 1), torch.arange(4)
    >>> curve = security_curve("fgsm", "white-box-aware", defended, images, labels, [0.1, 1.0])
    >>> [outcome.accuracy for outcome in curve]
    [1.0, 0.0]
    """
    with own_random_numbers(seed):
        return [
            evaluate_defense(defended, adversarial, labels)
            for adversarial in attack(
                name, threat, defended, images, labels, epsilons, substitute=substitute, seed=seed
            )
        ]


@dataclass(frozen=True)
class MaskingCheck:
    """Result of the gradient masking check.

    Parameters
    ----------
    masked : bool
        Whether accuracy stays above chance at every ε. If so, white-box results are meaningless.
    accuracy : float
        Lowest accuracy under PGD over all ε, in [0, 1].
    chance : float
        Frequency of the most frequent class, plus three standard errors.

    Examples
    --------
    >>> MaskingCheck(masked=False, accuracy=0.1, chance=0.2).masked
    False
    """

    masked: bool
    accuracy: float
    chance: float


def gradient_masking(
    defended: DefendedClassifier,
    images: Tensor,
    labels: Tensor,
    *,
    epsilons: Sequence[float] = _LARGE_EPSILONS,
    seed: int = 0,
) -> MaskingCheck:
    """Check whether the accuracy under white-box PGD falls to chance for large ε [1]_.

    If the accuracy stays above chance, gradients are probably masked. Detectors are removed first,
    since rejections are independent of gradient masking.

    Parameters
    ----------
    defended : DefendedClassifier
        Classifier and its defense.
    images : float[n, c, h, w]
        At least 100 clean images of balanced classes.
    labels : int64[n]
        Classes of the images.
    epsilons : sequence of float
        Values of ε, the maximum change per pixel, in (0, 1].
    seed : int
        Random seed for the attack.

    References
    ----------
    .. [1] N. Carlini et al., "On Evaluating Adversarial Robustness", 2019.

    Examples
    --------
    >>> defended = DefendedClassifier(nn.Identity(), nn.Flatten())
    >>> images, labels = torch.eye(4).view(4, 4, 1, 1), torch.arange(4)
    >>> gradient_masking(defended, images, labels, epsilons=[1.0]).masked
    False
    """
    bare = defended.without_detectors()
    curve = security_curve("pgd", "white-box-aware", bare, images, labels, epsilons, seed=seed)
    most = torch.bincount(labels.cpu()).max() / len(labels)
    chance = float(most + _STANDARD_ERRORS * math.sqrt(most * (1 - most) / len(labels)))
    accuracy = min(outcome.accuracy for outcome in curve)
    return MaskingCheck(accuracy > chance, accuracy, chance)


def check_better_than_chance(outcome: Outcome, labels: Tensor) -> None:
    """Check that a classifier is better than chance on clean images.

    Otherwise, the classifier probably expects a different pixel range or different class numbers.

    Raises
    ------
    NearfarError
        If the accuracy does not exceed the frequency of the most frequent class, or all images
        belong to one class.
    """
    most = float(torch.bincount(labels.cpu()).max() / len(labels))
    if most == 1:
        raise NearfarError(
            f"the images to attack ({len(labels)}) are all of class {int(labels[0])}: expected "
            "more of them, of two or more classes, to tell whether they are recognized"
        )
    if outcome.accuracy <= most:
        raise NearfarError(
            f"the classifier has accuracy {outcome.accuracy:.1%} on {len(labels)} clean images, "
            f"and the most frequent class has {most:.1%} of them: expected a classifier of images "
            "with values in [0, 1], and with classes numbered as the labels"
        )
