"""A defended classifier under every threat model that attacks fit."""

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
from nearfar.defense.classifiers import SUBSTITUTE_EPOCHS, classify, pixels_of, train_classifier
from nearfar.defense.guard import Guarded, device_of
from nearfar.defense.robustness import (
    Masking,
    Outcome,
    check_better_than_chance,
    gradient_masking,
    judge,
    security_curve,
)
from nearfar.defense.threats import Threat
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent

#: Images that the attacker of a transfer attack has, at most half of all.
SUBSTITUTE_IMAGES = 150
FEWEST_IMAGES = 20
#: Of fewer, too much accuracy may be chance.
FEWEST_FOR_MASKING = 100


@dataclass(frozen=True)
class Assessment:
    """What attacks did.

    Parameters
    ----------
    clean : Outcome
        Without an attack.
    substitute : float
        The accuracy of the substitute on the same images.
    epsilons : tuple of float
        The largest changes of a pixel.
    curves : dict
        By threat model and attack, an `Outcome` for each ε.
    masking : Masking, optional
        Whether the numbers of gradient attacks can be believed; None of fewer than a hundred
        images, which cannot tell.
    """

    clean: Outcome
    substitute: float
    epsilons: tuple[float, ...]
    curves: dict[tuple[Threat, str], list[Outcome]]
    masking: Masking | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
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
    guarded: Guarded,
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
    images : Images
        Labeled; of the classifier's shape. 150 of them, or half if there are fewer than 300, are
        the attacker's, who trains a substitute on what the classifier says of these.
    attacks : sequence of str
        See `nearfar.defense.attacks.attack`. Those with gradients are made under "transfer",
        "white-box-unaware" and "white-box-aware", the others under "decision-based".
    count : int
        How many of the other images are attacked, drawn at random.

    Raises
    ------
    NearfarError
        If the classifier takes other images or does not recognize these, if they are all of one
        class, or a choice is none.
    """
    check_attacks(attacks)
    chosen = check_epsilons(epsilons)
    labels = require_labels(images)
    if len(images) < FEWEST_IMAGES or count < 1:
        raise NearfarError(
            f"{count} of {len(images)} images of {images.name!r} to attack: expected at least 1 "
            f"of at least {FEWEST_IMAGES}"
        )
    classes = count_classes(guarded, images.shape, torch.zeros((), device=device_of(guarded)))
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < classes:
            raise NearfarError(
                f"{images.name!r} has images of class {label}, and the classifier knows {classes} "
                "classes, from 0 on: expected the same classes"
            )
    for name in attacks:
        check_fits(name, classes)
    order = np.random.default_rng(seed).permutation(len(images))
    own = min(SUBSTITUTE_IMAGES, len(images) // 2)
    held_out, rest = Subset(images, order[:own]), Subset(images, order[own : own + count])
    pixels, truth = pixels_of(rest), torch.from_numpy(labels[order[own : own + count]])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clean = judge(guarded, pixels, truth)
    check_better_than_chance(clean, truth)

    says = classify(Guarded(nn.Identity(), guarded.classifier), pixels_of(held_out))
    substitute = train_classifier(
        "substitute",
        held_out,
        epochs=SUBSTITUTE_EPOCHS,
        seed=seed,
        labels=says,
        classes=classes,
        device=device_of(guarded).type,
    )
    substitute = substitute.to(device_of(guarded))
    planned: list[tuple[Threat, str]] = []
    for name in attacks:
        if name in QUERY_ATTACKS:
            planned.append(("decision-based", name))
        else:
            planned += [("transfer", name), ("white-box-unaware", name), ("white-box-aware", name)]
    curves = {
        (threat, name): security_curve(
            name, threat, guarded, pixels, truth, chosen, substitute=substitute, seed=seed
        )
        for threat, name in track(planned, "attacking", len(planned))
    }
    right = judge(Guarded(nn.Identity(), substitute), pixels, truth).accuracy
    masking = None
    if len(truth) >= FEWEST_FOR_MASKING:
        masking = gradient_masking(guarded, pixels, truth, seed=seed)
    return Assessment(clean, right, chosen, curves, masking)
