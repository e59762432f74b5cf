"""Attacks within L∞ balls, using the adversarial-robustness-toolbox (ART)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nearfar.defense.checks import check_epsilons, check_images, count_classes
from nearfar.defense.defended import DefendedClassifier, apply_in_batches, device_of
from nearfar.defense.threats import Threat, attacked_module
from nearfar.errors import NearfarError, require
from nearfar.randomness import own_random_numbers

#: Steps of PGD; each has the length 2.5 ε / steps, as in A. Madry et al. (ICLR 2018).
PGD_STEPS = 40
#: Iterations of HopSkipJump.
HOP_SKIP_JUMP_STEPS = 10

_BATCH_SIZE = 256
_SQUARE_QUERIES = 300
#: Steps of each APGD, and queries of Square, within AutoAttack.
_APGD_STEPS = 100
_AUTOATTACK_QUERIES = 5000
_MIN_CLASSES_AUTOATTACK = 3

_Array = npt.NDArray[np.float32]
#: Functions from the ART module, an ART classifier and ε to an ART attack.
_MakeAttack = Callable[[Any, Any, float], Any]


def _fgsm(art: Any, classifier: Any, epsilon: float) -> Any:
    return art.FastGradientMethod(classifier, eps=epsilon, eps_step=epsilon, batch_size=_BATCH_SIZE)


def _pgd(art: Any, classifier: Any, epsilon: float) -> Any:
    return art.ProjectedGradientDescentPyTorch(
        classifier,
        eps=epsilon,
        eps_step=2.5 * epsilon / PGD_STEPS,
        max_iter=PGD_STEPS,
        num_random_init=1,
        batch_size=_BATCH_SIZE,
        verbose=False,
    )


def _autoattack(art: Any, classifier: Any, epsilon: float) -> Any:
    """Return an ensemble of the attacks of AutoAttack that ART provides, with one start for each.

    AutoAttack also uses FAB and targeted APGD, which ART lacks. See F. Croce, M. Hein, "Reliable
    evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", ICML
    2020.
    """
    common = {"eps": epsilon, "batch_size": _BATCH_SIZE, "verbose": False}
    climbs = [
        art.AutoProjectedGradientDescent(
            classifier,
            eps_step=epsilon / 4,
            max_iter=_APGD_STEPS,
            nb_random_init=1,
            loss_type=loss,
            **common,
        )
        for loss in ("cross_entropy", "difference_logits_ratio")
    ]
    square = art.SquareAttack(classifier, max_iter=_AUTOATTACK_QUERIES, p_init=0.8, **common)
    return art.AutoAttack(
        classifier, eps=epsilon, attacks=[*climbs, square], batch_size=_BATCH_SIZE
    )


def _square(art: Any, classifier: Any, epsilon: float) -> Any:
    return art.SquareAttack(
        classifier, eps=epsilon, max_iter=_SQUARE_QUERIES, batch_size=_BATCH_SIZE, verbose=False
    )


def _hop_skip_jump(art: Any, classifier: Any, epsilon: float) -> Any:
    hop_skip_jump = art.HopSkipJump(
        classifier, norm=np.inf, max_iter=HOP_SKIP_JUMP_STEPS, batch_size=_BATCH_SIZE, verbose=False
    )
    hop_skip_jump._binary_search = _search_or_stay(hop_skip_jump)
    return hop_skip_jump


def _search_or_stay(hop_skip_jump: Any) -> Callable[..., Any]:
    """Return ART's binary search for the decision boundary, with a fallback.

    If the search does not end at an adversarial image, the image at the start of the search is
    returned.

    Rounding errors can end the search just across the boundary. ART would then halve the next step
    forever.
    """
    search, is_adversarial = (
        hop_skip_jump._binary_search,
        hop_skip_jump._adversarial_satisfactory,
    )

    def search_or_stay(**arguments: Any) -> Any:
        sample = search(**arguments)
        goal = {name: arguments[name] for name in ("target", "clip_min", "clip_max")}
        (succeeded,) = is_adversarial(samples=sample[None], **goal)
        return sample if succeeded else arguments["current_sample"]

    return search_or_stay


GRADIENT_ATTACKS: dict[str, _MakeAttack] = {"fgsm": _fgsm, "pgd": _pgd, "autoattack": _autoattack}
#: Square queries scores, HopSkipJump only labels.
QUERY_ATTACKS: dict[str, _MakeAttack] = {"square": _square, "hop-skip-jump": _hop_skip_jump}
ATTACKS = GRADIENT_ATTACKS | QUERY_ATTACKS
#: Attacks that can target a class.
_TARGETABLE = {"fgsm", "pgd", "hop-skip-jump"}


def attack(
    name: str,
    threat: Threat,
    defended: DefendedClassifier,
    images: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    *,
    substitute: nn.Module | None = None,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Yield adversarial images against a defended classifier.

    Parameters
    ----------
    name : {"fgsm", "pgd", "autoattack", "square", "hop-skip-jump"}
        Attack. The first three use gradients; the others query the classifier.
    threat : {"transfer", "white-box-unaware", "white-box-aware", "decision-based"}
        Threat model, which defines what the attacker has access to. See `THREATS`.
    defended : DefendedClassifier
        Classifier and its defense.
    images : float[n, c, h, w]
        Clean images, with values in [0, 1].
    labels : int64[n]
        Classes of the images.
    epsilons : sequence of float
        Values of ε, the maximum change per pixel, in (0, 1].
    substitute : nn.Module, optional
        Attacker's substitute classifier, required for "transfer".
    seed : int
        Random seed for the attack.

    Yields
    ------
    float32[n, c, h, w]
        Adversarial images for each ε in turn, on the CPU, with values in [0, 1]. Each pixel differs
        by at most ε from the clean image.

    Raises
    ------
    NearfarError
        If the attack is not possible under the threat model, or the classifier does not accept the
        images.

    Examples
    --------
    >>> from nearfar.defense import DefendedClassifier
    >>> classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> defended = DefendedClassifier(nn.Identity(), classifier)
    >>> images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    >>> (adversarial,) = attack("fgsm", "white-box-aware", defended, images, labels, [0.1])
    >>> bool((adversarial - images).abs().max() <= 0.1 + 1e-6)
    True
    """
    check_attack(name)
    fitting = QUERY_ATTACKS if threat == "decision-based" else GRADIENT_ATTACKS
    if name not in fitting:
        raise NearfarError(
            f"attack {name!r} under the threat {threat!r}: expected {', '.join(fitting)}"
        )
    check_epsilons(epsilons)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    check_images(images, shape)
    target = attacked_module(threat, defended, substitute).eval()
    # An untargeted attack may end in a rejection; a targeted attack avoids it.
    targeted = bool(defended.detectors) and threat in ("white-box-aware", "decision-based")
    if targeted and name not in _TARGETABLE:
        raise NearfarError(
            f"attack {name!r} cannot evade detectors: expected {' or '.join(sorted(_TARGETABLE))}"
        )
    clean, truth = images.cpu().numpy(), labels.cpu().numpy()
    with seed_art(seed):
        estimator = _estimator(target, shape)
        check_fits(name, estimator.nb_classes)
        if name == "hop-skip-jump":
            results: Iterator[_Array] = repeat(
                _hop_from_other_images(estimator, clean, truth, targeted, seed)
            )
        else:
            goal = _runner_up(target, images, labels) if targeted else truth
            results = (_generate(name, estimator, clean, goal, targeted, each) for each in epsilons)
        for epsilon, adversarial in zip(epsilons, results, strict=False):
            # ART rounds, and HopSkipJump minimizes the change without a bound.
            near = np.clip(adversarial, clean - epsilon, clean + epsilon).clip(0, 1)
            yield torch.from_numpy(near.astype(np.float32))


def check_attack(name: str) -> None:
    """Check the name of an attack.

    Raises
    ------
    NearfarError
        If the name is unknown. The message lists the known attacks.
    """
    if name not in ATTACKS:
        raise NearfarError(f"attack {name!r} is unknown: expected {', '.join(ATTACKS)}")


def check_attacks(names: Sequence[str]) -> None:
    """Check the names of attacks.

    Raises
    ------
    NearfarError
        If a name is unknown, or there are no names. The message lists the known attacks.

    Examples
    --------
    >>> check_attacks(["fgsm", "pgd"])
    """
    if not names:
        raise NearfarError(f"no attacks: expected one or more of {', '.join(ATTACKS)}")
    for name in names:
        check_attack(name)


def check_fits(name: str, num_classes: int) -> None:
    """Check that an attack supports a number of classes.

    Raises
    ------
    NearfarError
        If the attack requires more classes. The message names another attack.
    """
    if name == "autoattack" and num_classes < _MIN_CLASSES_AUTOATTACK:
        raise NearfarError(
            f"attack {name!r} on {num_classes} classes: its difference-of-logits-ratio loss needs "
            f"{_MIN_CLASSES_AUTOATTACK} or more: use pgd"
        )


def _estimator(module: nn.Module, shape: tuple[int, int, int]) -> Any:
    """Return a module wrapped as an ART classifier of images with values in [0, 1]."""
    classification = require("art.estimators.classification", extra="defense")
    device = device_of(module)
    return classification.PyTorchClassifier(
        _Float32(module),
        loss=nn.CrossEntropyLoss(),
        input_shape=shape,
        nb_classes=count_classes(module, shape, torch.zeros((), device=device)),
        clip_values=(0.0, 1.0),
        device_type="gpu" if device.type == "cuda" else "cpu",
    )


class _Float32(nn.Module):
    """Module that casts images to float32, since HopSkipJump queries classifiers with float64."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images.float())


def _generate(
    name: str, estimator: Any, clean: _Array, labels: _Array, targeted: bool, epsilon: float
) -> _Array:
    art = require("art.attacks.evasion", extra="defense")
    evasion = ATTACKS[name](art, estimator, epsilon)
    if targeted:
        evasion.set_params(targeted=True)
    return evasion.generate(clean, labels)


def _hop_from_other_images(
    estimator: Any, clean: _Array, labels: _Array, targeted: bool, seed: int
) -> _Array:
    """Return the result of HopSkipJump, which starts from an image of another class.

    Each attack starts from a random image that has another predicted class or, if there is none,
    another true class. Images that are already misclassified are returned unchanged, since an
    untargeted attack might turn them into correctly classified images.
    """
    art = require("art.attacks.evasion", extra="defense")
    predicted = estimator.predict(clean, batch_size=_BATCH_SIZE).argmax(1)
    # With a target, the last class is rejection.
    accepted = predicted < estimator.nb_classes - int(targeted)
    by_prediction = [np.flatnonzero((predicted != label) & accepted) for label in labels]
    by_label = [np.flatnonzero(labels != label) for label in labels]
    starts_of = [
        rows if len(rows) else others for rows, others in zip(by_prediction, by_label, strict=True)
    ]
    if not all(map(len, starts_of)):
        raise NearfarError("all images belong to one class: hop-skip-jump needs several")
    generator = np.random.default_rng(seed)
    starts = np.array([generator.choice(rows) for rows in starts_of])
    evasion = ATTACKS["hop-skip-jump"](art, estimator, 1.0)
    if targeted:
        evasion.set_params(targeted=True)
    adversarial = evasion.generate(
        clean.copy(),
        predicted[starts] if targeted else labels,
        x_adv_init=clean[starts].copy(),
    )
    misclassified = (predicted != labels) & accepted
    adversarial[misclassified] = clean[misclassified]
    return adversarial


def _runner_up(target: nn.Module, images: Tensor, labels: Tensor) -> _Array:
    """Return the most likely wrong class of each image (int64[n]), except for rejection."""
    with torch.no_grad():
        logits = apply_in_batches(target, images, device_of(target))[:, :-1]
    return logits.scatter(1, labels.cpu()[:, None], -torch.inf).argmax(1).numpy()


@contextmanager
def seed_art(seed: int) -> Iterator[None]:
    """Seed the global random generators that ART uses, and restore their state afterward."""
    before = np.random.get_state()
    with own_random_numbers(seed):
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
