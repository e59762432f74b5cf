"""Attacks of the adversarial-robustness-toolbox (ART) within L∞ balls."""

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
from nearfar.defense.guard import Guarded, device_of, in_batches
from nearfar.defense.threats import Threat, visible
from nearfar.errors import NearfarError, require

BATCH = 256
#: Steps of PGD; each is 2.5 ε / steps long, as A. Madry et al. do (ICLR 2018).
PGD_STEPS = 40
SQUARE_QUERIES = 300
HOP_SKIP_JUMP_STEPS = 10
FEWEST_FOR_AUTOATTACK = 3

Array = npt.NDArray[np.float32]
#: Makes an ART attack from the ART module, an ART classifier, and ε.
Make = Callable[[Any, Any, float], Any]


def _fgsm(art: Any, classifier: Any, epsilon: float) -> Any:
    return art.FastGradientMethod(classifier, eps=epsilon, eps_step=epsilon, batch_size=BATCH)


def _pgd(art: Any, classifier: Any, epsilon: float) -> Any:
    return art.ProjectedGradientDescentPyTorch(
        classifier,
        eps=epsilon,
        eps_step=2.5 * epsilon / PGD_STEPS,
        max_iter=PGD_STEPS,
        num_random_init=1,
        batch_size=BATCH,
        verbose=False,
    )


def _autoattack(art: Any, classifier: Any, epsilon: float) -> Any:
    return art.AutoAttack(classifier, eps=epsilon, eps_step=epsilon / 4, batch_size=BATCH)


def _square(art: Any, classifier: Any, epsilon: float) -> Any:
    return art.SquareAttack(
        classifier, eps=epsilon, max_iter=SQUARE_QUERIES, batch_size=BATCH, verbose=False
    )


def _hop_skip_jump(art: Any, classifier: Any, epsilon: float) -> Any:
    made = art.HopSkipJump(
        classifier, norm=np.inf, max_iter=HOP_SKIP_JUMP_STEPS, batch_size=BATCH, verbose=False
    )
    made._binary_search = _search_or_stay(made)
    return made


def _search_or_stay(hop_skip_jump: Any) -> Callable[..., Any]:
    """Keep HopSkipJump at the adversarial image that it came from if its search ends at none.

    Rounding can end the search just across the boundary. ART then halves its next step until that
    is adversarial, for ever.
    """
    search, is_adversarial = (
        hop_skip_jump._binary_search,
        hop_skip_jump._adversarial_satisfactory,
    )

    def search_or_stay(**asked: Any) -> Any:
        found = search(**asked)
        about = {name: asked[name] for name in ("target", "clip_min", "clip_max")}
        (succeeded,) = is_adversarial(samples=found[None], **about)
        return found if succeeded else asked["current_sample"]

    return search_or_stay


GRADIENT_ATTACKS: dict[str, Make] = {"fgsm": _fgsm, "pgd": _pgd, "autoattack": _autoattack}
#: Square asks for scores, HopSkipJump for labels only.
QUERY_ATTACKS: dict[str, Make] = {"square": _square, "hop-skip-jump": _hop_skip_jump}
ATTACKS = GRADIENT_ATTACKS | QUERY_ATTACKS
#: What attacks that aim at one class need to be told.
TARGETABLE = {"fgsm", "pgd", "hop-skip-jump"}


def attack(
    name: str,
    threat: Threat,
    guarded: Guarded,
    images: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    *,
    substitute: nn.Module | None = None,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Make adversarial images for a defended classifier.

    Parameters
    ----------
    name : {"fgsm", "pgd", "autoattack", "square", "hop-skip-jump"}
        The first three take gradients, the others queries.
    threat : {"transfer", "white-box-unaware", "white-box-aware", "decision-based"}
        What the attack sees, see `nearfar.defense.threats.THREATS`.
    guarded : Guarded
        The classifier and its defense.
    images : float[n, c, h, w]
        Clean images, where 0…1 is black…white.
    labels : int64[n]
        Their classes.
    epsilons : sequence of float
        The largest change of a pixel, 0…1.
    substitute : nn.Module, optional
        For "transfer".
    seed : int
        Decides what is random in the attack.

    Yields
    ------
    float32[n, c, h, w]
        For each ε in turn, images within ε of the clean ones, and in 0…1; on the CPU.

    Raises
    ------
    NearfarError
        If the attack does not fit the threat model, or the images not the classifier.
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
    seen = visible(threat, guarded, substitute).eval()
    # To be accepted as one class is an aim; to be taken for any other may end in a rejection.
    aims = bool(guarded.detectors) and threat in ("white-box-aware", "decision-based")
    if aims and name not in TARGETABLE:
        raise NearfarError(
            f"attack {name!r} cannot evade detectors: expected {' or '.join(sorted(TARGETABLE))}"
        )
    clean, truth = images.cpu().numpy(), labels.cpu().numpy()
    with seeded(seed):
        estimator = _estimator(seen, shape)
        check_fits(name, estimator.nb_classes)
        if name == "hop-skip-jump":
            found: Iterator[Array] = repeat(_nearest_found(estimator, clean, truth, aims, seed))
        else:
            goal = _runner_up(seen, images, labels) if aims else truth
            found = (_generate(name, estimator, clean, goal, aims, each) for each in epsilons)
        for epsilon, adversarial in zip(epsilons, found, strict=False):
            # ART rounds; and HopSkipJump looks for the smallest change, however large.
            near = np.clip(adversarial, clean - epsilon, clean + epsilon).clip(0, 1)
            yield torch.from_numpy(near.astype(np.float32))


def check_attack(name: str) -> None:
    """Refuse an attack that is unknown.

    Raises
    ------
    NearfarError
        Naming those there are.
    """
    if name not in ATTACKS:
        raise NearfarError(f"attack {name!r} is unknown: expected {', '.join(ATTACKS)}")


def check_attacks(names: Sequence[str]) -> None:
    """Refuse attacks that are unknown, or none at all.

    Raises
    ------
    NearfarError
        Naming those there are.
    """
    if not names:
        raise NearfarError(f"no attacks: expected one or more of {', '.join(ATTACKS)}")
    for name in names:
        check_attack(name)


def check_fits(name: str, classes: int) -> None:
    """Refuse an attack that needs more classes.

    Raises
    ------
    NearfarError
        Naming others.
    """
    if name == "autoattack" and classes < FEWEST_FOR_AUTOATTACK:
        raise NearfarError(
            f"attack {name!r} on {classes} classes: its difference of logits ratio needs "
            f"{FEWEST_FOR_AUTOATTACK} or more, so take pgd"
        )


def _estimator(module: nn.Module, shape: tuple[int, int, int]) -> Any:
    """Return a module as ART's classifier of images in 0…1."""
    classification = require("art.estimators.classification", extra="defense")
    device = device_of(module)
    return classification.PyTorchClassifier(
        _InSinglePrecision(module),
        loss=nn.CrossEntropyLoss(),
        input_shape=shape,
        nb_classes=count_classes(module, shape, torch.zeros((), device=device)),
        clip_values=(0.0, 1.0),
        device_type="gpu" if device.type == "cuda" else "cpu",
    )


class _InSinglePrecision(nn.Module):
    """HopSkipJump asks about images in float64."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images.float())


def _generate(
    name: str, estimator: Any, clean: Array, labels: Array, aims: bool, epsilon: float
) -> Array:
    art = require("art.attacks.evasion", extra="defense")
    made = ATTACKS[name](art, estimator, epsilon)
    if aims:
        made.set_params(targeted=True)
    return made.generate(clean, labels)


def _nearest_found(estimator: Any, clean: Array, labels: Array, aims: bool, seed: int) -> Array:
    """Walk from images that are taken for other classes, or are, as near to each as labels allow.

    An image that is taken for another class as it is stays as it is: without an aim, ART would walk
    away from what it is taken for, and might set it right.
    """
    art = require("art.attacks.evasion", extra="defense")
    answers = estimator.predict(clean, batch_size=BATCH).argmax(1)
    # Where there is an aim, the last class is rejection.
    accepted = answers < estimator.nb_classes - int(aims)
    taken = [np.flatnonzero((answers != label) & accepted) for label in labels]
    shown = [np.flatnonzero(labels != label) for label in labels]
    others = [rows if len(rows) else instead for rows, instead in zip(taken, shown, strict=True)]
    if not all(map(len, others)):
        raise NearfarError("all images are of one class: hop-skip-jump needs images of others")
    draws = np.random.default_rng(seed)
    starts = np.array([draws.choice(rows) for rows in others])
    made = ATTACKS["hop-skip-jump"](art, estimator, 1.0)
    if aims:
        made.set_params(targeted=True)
    found = made.generate(
        clean.copy(), answers[starts] if aims else labels, x_adv_init=clean[starts].copy()
    )
    missed = (answers != labels) & accepted
    found[missed] = clean[missed]
    return found


def _runner_up(seen: nn.Module, images: Tensor, labels: Tensor) -> Array:
    """The likeliest wrong class of each image that is none of rejection, int64[n]."""
    with torch.no_grad():
        logits = in_batches(seen, images, device_of(seen))[:, :-1]
    return logits.scatter(1, labels.cpu()[:, None], -torch.inf).argmax(1).numpy()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed what ART draws from, and leave it as it was."""
    before = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
