"""Rows of Table 3: defenses, the networks of the defenses, and the defended classifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import Tensor, nn

from nearfar.config import TrainConfig, configure, recipe
from nearfar.data import Images
from nearfar.defense import (
    MAGNET_NOISE_STD,
    SUBSTITUTE_EPOCHS,
    Classifier,
    DefendedClassifier,
    NeighborPurifier,
    Purifier,
    load_classifier,
    load_pixels,
    magnet,
    predict_classes,
    save_classifier,
    train_adversarially,
    train_classifier,
)
from nearfar.experiments.cells import Key, Papers
from nearfar.experiments.configs import AUTOENCODER, NEARFAR, NEARFAR_AUTOENCODER
from nearfar.experiments.metrics import encode
from nearfar.experiments.rows import Network
from nearfar.experiments.runner import Runner
from nearfar.models import resolve_device

#: ε of adversarial training.
ROBUST_EPSILON = 0.3
NO_DEFENSE = "no-defense"

#: Noise that our network and MagNet's network are trained to remove.
ADVERSARIAL: dict[str, Any] = {
    "pretext": "denoising",
    "noise": "adversarial",
    "noise_level": 0.35,
}
GAUSSIAN: dict[str, Any] = {
    "pretext": "denoising",
    "noise": "gaussian",
    "noise_level": MAGNET_NOISE_STD,
}
WEIGHTS = (0.6, 0.2, 0.2)
#: No hidden layer before the embeddings, since it degrades reconstructions.
SHALLOW: dict[str, Any] = {"batch_norm": True, "hidden": 0, "precision": "bf16"}


def _like_ours(**options: Any) -> TrainConfig:
    return configure({**SHALLOW, **options}, base=NEARFAR_AUTOENCODER)


MAGNET = Network("MagNet", configure(GAUSSIAN, base=AUTOENCODER))
OURS = Network(
    "nearfar",
    configure(
        {"pixel_weight": 100.0, "identity_prob": 0.0, **SHALLOW, **ADVERSARIAL}, base=NEARFAR
    ),
)
UNRELATED = Network("nearfar-unrelated", _like_ours(**ADVERSARIAL))


@dataclass(frozen=True, kw_only=True)
class DefenseRow:
    """Row of Table 3: a defense.

    Parameters
    ----------
    network : Network, optional
        Network of the purifier. Default: no purification.
    neighbors : int
        Number of votes in neighbor voting, see `nearfar.defense.NeighborVoting`. 0 disables it.
    detectors : bool
        Whether detectors reject suspicious images. With neighbor voting, the detector is the
        reconstruction error; otherwise, the detectors are those of MagNet.
    hardened : bool
        Whether the classifier is also trained on adversarial images.
    binarized : bool
        Whether pixels are rounded to black or white instead of purified.
    paper : mapping
        Accuracies in the paper under transfer attacks, by ε.
    """

    network: Network | None = None
    neighbors: int = 0
    detectors: bool = False
    hardened: bool = False
    binarized: bool = False
    paper: Papers = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return the settings of the defense, except for the network, as JSON types."""
        parts = {name: getattr(self, name) for name in ("neighbors", "detectors", "hardened")}
        return parts | ({"binarized": True} if self.binarized else {})


ROWS = {
    NO_DEFENSE: DefenseRow(),
    "autoencoder": DefenseRow(network=Network("autoencoder", AUTOENCODER)),
    "MagNet-reformer": DefenseRow(
        network=MAGNET, paper={0.01: 0.9238, 0.1: 0.7655, 0.2: 0.614, 0.3: 0.4242}
    ),
    "MagNet-whole": DefenseRow(network=MAGNET, detectors=True),
    "MagNet-like-ours": DefenseRow(network=Network("MagNet-like-ours", _like_ours(**GAUSSIAN))),
    "NRE": DefenseRow(
        network=Network("NRE", recipe("paper", loss_weights=WEIGHTS)),
        paper={0.01: 0.9802, 0.1: 0.9056, 0.2: 0.8489, 0.3: 0.7166},
    ),
    "NRE-denoising": DefenseRow(
        network=Network(
            "NRE-denoising", recipe("paper", loss_weights=WEIGHTS, pixel_weight=1000.0, **GAUSSIAN)
        )
    ),
    "nearfar": DefenseRow(network=OURS),
    "nearfar-neighbors": DefenseRow(network=OURS, neighbors=5),
    "nearfar-neighbors-whole": DefenseRow(network=OURS, neighbors=5, detectors=True),
    "nearfar-unrelated": DefenseRow(network=UNRELATED),
    "nearfar-unrelated-neighbors": DefenseRow(network=UNRELATED, neighbors=5),
    "adversarial-training": DefenseRow(hardened=True),
    "binarization": DefenseRow(binarized=True),
}
#: Rows that are attacked by the slow AutoAttack.
AUTOATTACK_ROWS = (
    NO_DEFENSE,
    "nearfar",
    "nearfar-unrelated",
    "adversarial-training",
    "binarization",
)


class Binarizer(nn.Module):
    """Module that rounds pixels to black or white, the baseline of Schott et al. (ICLR 2019).

    The gradient of rounding is zero almost everywhere. This would stop gradient-based attacks
    without making the classifier more robust. Therefore, the backward pass uses the gradient of the
    identity (BPDA).

    Examples
    --------
    >>> import torch
    >>> Binarizer()(torch.tensor([0.2, 0.7]))
    tensor([0., 1.])
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the images (float[b, c, h, w]), rounded to 0 or 1."""
        return images + (images.round() - images).detach()


@dataclass(frozen=True, kw_only=True)
class DefenseEpochs:
    """Numbers of epochs of the training runs in Table 3.

    Parameters
    ----------
    networks : int
        Epochs of the networks of purifiers.
    classifier : int
        Epochs of the target classifier.
    robust : int
        Epochs of the adversarial training of the target.
    """

    networks: int
    classifier: int
    robust: int


class Defenses:
    """Builder of the defenses of all rows. Shared networks and classifiers are trained once.

    Parameters
    ----------
    runner : Runner
        Runner that trains networks. Classifiers are kept in the subfolder ``classifiers``.
    learned : Images
        Training images of the target and of the networks of purifiers.
    validation : Images
        Images on which detectors are calibrated.
    held_out : Images
        Training images of the substitute, a classifier that the attacker trains.
    epochs : DefenseEpochs
        Numbers of epochs.
    options : dict
        Training options shared by all networks.
    """

    def __init__(
        self,
        runner: Runner,
        learned: Images,
        validation: Images,
        held_out: Images,
        epochs: DefenseEpochs,
        options: dict[str, Any],
    ) -> None:
        self.runner, self.learned, self.held_out = runner, learned, held_out
        self.epochs, self.options = epochs, options
        self.clean = load_pixels(validation)
        self.device = resolve_device("auto")
        self.target = cache(self._make_target)
        self.substitute = cache(self._make_substitute)

    def make(self, row: DefenseRow, seed: int) -> DefendedClassifier:
        """Return the target classifier with the defense of a row, trained with the given seed."""
        classifier = self.target(row.hardened, seed)
        if row.network is None:
            return DefendedClassifier(Binarizer() if row.binarized else nn.Identity(), classifier)
        track, config = self.runner.track, self.config(row.network, seed)
        network = self.runner.train(row.network.run(seed), self.learned, config).network()
        shape = self.learned.shape
        if row.neighbors:
            bank = encode(network.encoder, self.learned, track)
            purifier = NeighborPurifier(network, shape, bank, votes=row.neighbors)
            clean = self.clean if row.detectors else None
            return purifier.to(self.device).defend(classifier, clean=clean, track=track)
        reformer = Purifier(network, shape).to(self.device)
        if row.detectors:
            return magnet(reformer, classifier, self.clean)
        return reformer.defend(classifier)

    def config(self, network: Network, seed: int) -> TrainConfig:
        """Return the training configuration of a network."""
        return network.train_for(self.epochs.networks, seed=seed, **self.options)

    def _make_target(self, hardened: bool, seed: int) -> Classifier:
        """Return the target classifier; if `hardened`, after adversarial training."""
        if hardened:
            return self._keep(
                "hardened",
                seed,
                lambda: train_adversarially(
                    self.target(False, seed),
                    self.learned,
                    epsilon=ROBUST_EPSILON,
                    epochs=self.epochs.robust,
                    seed=seed,
                ),
            )
        return self._keep(
            "target",
            seed,
            lambda: train_classifier(
                "target",
                self.learned,
                epochs=self.epochs.classifier,
                seed=seed,
                track=self.runner.track,
            ),
        )

    def _make_substitute(self, hardened: bool, seed: int) -> Classifier:
        """Return the substitute of the attacker, trained on the predictions of the target."""
        return self._keep(
            "hardened-substitute" if hardened else "substitute",
            seed,
            lambda: train_classifier(
                "substitute",
                self.held_out,
                epochs=SUBSTITUTE_EPOCHS,
                seed=seed,
                labels=predict_classes(self.target(hardened, seed), load_pixels(self.held_out)),
                track=self.runner.track,
            ),
        )

    def _keep(self, name: str, seed: int, make: Callable[[], Classifier]) -> Classifier:
        """Return a classifier from a file. If there is no file, call `make` and write the file."""
        path = self.runner.folder / "classifiers" / f"{Key(name, seed).name}.safetensors"
        with self.runner.lock(path.stem):
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                save_classifier(path, make())
        return load_classifier(path).to(self.device)
