"""Assessment of a defended classifier: attacks under all threat models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nearfar.data import Images, Subset, require_labels
from nearfar.defense.attacks import QUERY_ATTACKS, check_attacks, check_fits
from nearfar.defense.checks import check_epsilons, count_classes
from nearfar.defense.classifiers import (
    SUBSTITUTE_EPOCHS,
    load_pixels,
    predict_classes,
    train_classifier,
)
from nearfar.defense.defended import DefendedClassifier, device_of
from nearfar.defense.robustness import (
    MaskingCheck,
    Outcome,
    check_better_than_chance,
    evaluate_defense,
    gradient_masking,
    security_curve,
)
from nearfar.defense.threats import Threat
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.randomness import own_random_numbers

#: Minimum number of attacked images for the gradient masking check.
MIN_IMAGES_FOR_MASKING = 100

#: Maximum number of images on which to train the attacker's substitute.
_SUBSTITUTE_IMAGES = 150
_MIN_IMAGES = 20


@dataclass(frozen=True)
class Assessment:
    """Outcomes of attacks on a defended classifier.

    Parameters
    ----------
    clean : Outcome
        Outcome without an attack.
    substitute : float
        Accuracy of the attacker's substitute classifier on the clean images, in [0, 1].
    epsilons : tuple of float
        Values of ε, the maximum change per pixel.
    curves : dict
        Mapping from (threat model, attack) to a list with one `Outcome` for each ε.
    masking : MaskingCheck or None
        Result of the gradient masking check. None if there are fewer than 100 images.

    Examples
    --------
    >>> clean = Outcome(accuracy=0.9, rejected=0.0, images=50)
    >>> curves = {("transfer", "fgsm"): [Outcome(accuracy=0.5, rejected=0.0, images=50)]}
    >>> Assessment(clean, 0.8, (0.1,), curves, None).to_dict()["attacks"][0]["accuracy"]
    0.5
    """

    clean: Outcome
    substitute: float
    epsilons: tuple[float, ...]
    curves: dict[tuple[Threat, str], list[Outcome]]
    masking: MaskingCheck | None

    def to_dict(self) -> dict[str, Any]:
        """Return the assessment as a JSON-compatible dictionary."""
        return {
            "clean": asdict(self.clean),
            "substitute": self.substitute,
            "attacks": [
                {"threat": threat, "attack": name, "epsilon": epsilon, **asdict(outcome)}
                for (threat, name), curve in self.curves.items()
                for epsilon, outcome in zip(self.epsilons, curve, strict=True)
            ],
            "masking": None if self.masking is None else asdict(self.masking),
        }


def assess(
    defended: DefendedClassifier,
    images: Images,
    *,
    attacks: Sequence[str] = ("fgsm", "pgd"),
    epsilons: Sequence[float] = (0.01, 0.1, 0.2, 0.3),
    count: int = 200,
    seed: int = 0,
    track: Track = silent,
) -> Assessment:
    """Attack a defended classifier under all threat models.

    Parameters
    ----------
    defended : DefendedClassifier
        Classifier and its defense.
    images : Images
        Labeled images of the classifier's input shape. The attacker gets 150 of these images, or
        half if there are fewer than 300, and trains a substitute classifier on the predictions of
        the undefended classifier.
    attacks : sequence of str
        Names of attacks. See `attack`. Gradient attacks run under the threat models "transfer",
        "white-box-unaware" and "white-box-aware"; other attacks run under "decision-based".
    epsilons : sequence of float
        Values of ε, the maximum change per pixel, in (0, 1].
    count : int
        Number of images to attack, drawn at random from those that the attacker does not get.
    seed : int
        Random seed.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Returns
    -------
    Assessment
        Outcomes of the attacks.

    Raises
    ------
    NearfarError
        If the classifier does not accept the images, or its accuracy is no better than chance; if
        all images belong to one class; or if an option is out of range.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> labels = np.arange(40) % 4
    >>> images = ArrayImages(np.eye(64, dtype=np.float32)[labels].reshape(40, 1, 8, 8), labels)
    >>> defended = DefendedClassifier(nn.Identity(), nn.Flatten())
    >>> assessment = assess(defended, images, attacks=["fgsm"], epsilons=[0.1], count=10)
    >>> assessment.clean.accuracy
    1.0
    """
    check_attacks(attacks)
    chosen = check_epsilons(epsilons)
    labels = require_labels(images)
    if len(images) < _MIN_IMAGES or count < 1:
        raise NearfarError(
            f"{count} of {len(images)} images of {images.name!r} to attack: expected at least 1 "
            f"of at least {_MIN_IMAGES}"
        )
    num_classes = count_classes(defended, images.shape, torch.zeros((), device=device_of(defended)))
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < num_classes:
            raise NearfarError(
                f"{images.name!r} has images of class {label}, and the classifier has "
                f"{num_classes} classes, from 0 on: expected the same classes"
            )
    for name in attacks:
        check_fits(name, num_classes)
    order = np.random.default_rng(seed).permutation(len(images))
    split = min(_SUBSTITUTE_IMAGES, len(images) // 2)
    held_out, rest = Subset(images, order[:split]), Subset(images, order[split : split + count])
    pixels, truth = load_pixels(rest), torch.from_numpy(labels[order[split : split + count]])
    with own_random_numbers(seed):
        clean = evaluate_defense(defended, pixels, truth)
    check_better_than_chance(clean, truth)

    plain = DefendedClassifier(nn.Identity(), defended.classifier)
    substitute = train_classifier(
        "substitute",
        held_out,
        epochs=SUBSTITUTE_EPOCHS,
        seed=seed,
        labels=predict_classes(plain, load_pixels(held_out)),
        num_classes=num_classes,
        device=device_of(defended).type,
    )
    substitute = substitute.to(device_of(defended))
    planned: list[tuple[Threat, str]] = []
    for name in attacks:
        if name in QUERY_ATTACKS:
            planned.append(("decision-based", name))
        else:
            planned += [("transfer", name), ("white-box-unaware", name), ("white-box-aware", name)]
    curves = {
        (threat, name): security_curve(
            name, threat, defended, pixels, truth, chosen, substitute=substitute, seed=seed
        )
        for threat, name in track(planned, "attacking", len(planned))
    }
    accuracy = evaluate_defense(
        DefendedClassifier(nn.Identity(), substitute), pixels, truth
    ).accuracy
    masking = None
    if len(truth) >= MIN_IMAGES_FOR_MASKING:
        masking = gradient_masking(defended, pixels, truth, seed=seed)
    return Assessment(clean, accuracy, chosen, curves, masking)
