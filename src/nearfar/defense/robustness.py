"""What a defense is worth: accuracy under attack, and whether the attack could be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nearfar.defense.attacks import attack
from nearfar.defense.guard import REJECTED, Guarded
from nearfar.defense.threats import Threat
from nearfar.errors import NearfarError

#: ε of the check for gradient masking: at 0.5, any image can be made gray.
LARGE = (0.3, 0.5, 1.0)
#: How many standard errors above chance still count as chance.
ERRORS = 3.0


@dataclass(frozen=True)
class Outcome:
    """What a defended classifier did with n images.

    Parameters
    ----------
    accuracy : float
        The share that was accepted and classified as labeled.
    rejected : float
        The share that a detector rejected.
    images : int
        n.
    """

    accuracy: float
    rejected: float
    images: int

    @property
    def defended(self) -> float:
        """The share of adversarial images that did no harm: rejected, or classified correctly."""
        return self.accuracy + self.rejected


def judge(guarded: Guarded, images: Tensor, labels: Tensor) -> Outcome:
    """Classify images, float[n, c, h, w], and compare with their labels, int64[n]."""
    found = guarded.predict(images)
    right, rejected = found == labels.cpu(), found == REJECTED
    return Outcome(float(right.double().mean()), float(rejected.double().mean()), len(images))


def security_curve(
    name: str,
    threat: Threat,
    guarded: Guarded,
    images: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    *,
    substitute: nn.Module | None = None,
    seed: int = 0,
) -> list[Outcome]:
    """Judge a defended classifier under an attack for each ε; see `nearfar.defense.attacks.attack`.

    A random defense is drawn anew for each judgment.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [
            judge(guarded, adversarial, labels)
            for adversarial in attack(
                name, threat, guarded, images, labels, epsilons, substitute=substitute, seed=seed
            )
        ]


@dataclass(frozen=True)
class Masking:
    """Whether gradients lead an attack astray, so that its numbers mean nothing.

    Parameters
    ----------
    masked : bool
        Accuracy stays above chance however large ε is.
    accuracy : float
        The least under PGD, of all ε.
    chance : float
        The accuracy that is not above chance: the share of the commonest class, and three standard
        errors.
    """

    masked: bool
    accuracy: float
    chance: float


def gradient_masking(
    guarded: Guarded,
    images: Tensor,
    labels: Tensor,
    *,
    epsilons: Sequence[float] = LARGE,
    seed: int = 0,
) -> Masking:
    """Attack with PGD, end to end, and see whether accuracy falls to chance as ε grows [1]_.

    Detectors are left aside: what they reject proves nothing about gradients.

    Parameters
    ----------
    images, labels
        Of all classes alike, which decides what chance is; a hundred or more.

    References
    ----------
    .. [1] N. Carlini et al., "On Evaluating Adversarial Robustness", 2019.
    """
    bare = guarded.without_detectors()
    curve = security_curve("pgd", "white-box-aware", bare, images, labels, epsilons, seed=seed)
    most = torch.bincount(labels.cpu()).max() / len(labels)
    chance = float(most + ERRORS * math.sqrt(most * (1 - most) / len(labels)))
    accuracy = min(outcome.accuracy for outcome in curve)
    return Masking(accuracy > chance, accuracy, chance)


def check_better_than_chance(outcome: Outcome, labels: Tensor) -> None:
    """Refuse a classifier that does not recognize clean images: its input must be something else.

    Raises
    ------
    NearfarError
        If its accuracy is no better than that of the commonest class, or there is only one.
    """
    most = float(torch.bincount(labels.cpu()).max() / len(labels))
    if most == 1:
        raise NearfarError(
            f"the images to attack ({len(labels)}) are all of class {int(labels[0])}: expected "
            "more of them, of two or more classes, to tell whether they are recognized"
        )
    if outcome.accuracy <= most:
        raise NearfarError(
            f"the classifier is right in {outcome.accuracy:.1%} of {len(labels)} clean images, and "
            f"the commonest class is {most:.1%}: expected one of images where 0…1 is black…white, "
            "with classes numbered as the labels"
        )
