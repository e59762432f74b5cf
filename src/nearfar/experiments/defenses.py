"""The rows of Table 3: defenses, their networks, and the classifiers behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from torch import nn

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
from nearfar.experiments.configs import ours, plain, plain_like_ours, relational
from nearfar.experiments.metrics import encode, network_after
from nearfar.experiments.runner import Reproduction
from nearfar.experiments.statistics import cell_name
from nearfar.models import resolve_device
from nearfar.training.config import TrainConfig

#: ε that adversarial training is against.
ROBUST_EPSILON = 0.3

#: What our network learns to undo.
ADVERSARIAL: dict[str, Any] = {
    "pretext": "denoising",
    "noise": "adversarial",
    "noise_level": 0.35,
}
#: What MagNet learns to undo.
GAUSSIAN: dict[str, Any] = {
    "pretext": "denoising",
    "noise": "gaussian",
    "noise_level": MAGNET_NOISE_STD,
}
WEIGHTS = (0.6, 0.2, 0.2)
#: What is reconstructed counts here, and a hidden layer before the embeddings makes that worse.
NORMALIZED: dict[str, Any] = {"network": "normalized", "precision": "bf16"}
NETWORKS: dict[str, Callable[..., TrainConfig]] = {
    "autoencoder": plain,
    "MagNet": partial(plain, **GAUSSIAN),
    "NRE": partial(relational, weights=WEIGHTS),
    "NRE-denoising": partial(relational, weights=WEIGHTS, pixel_weight=1000.0, **GAUSSIAN),
    "MagNet-like-ours": partial(plain_like_ours, **NORMALIZED, **GAUSSIAN),
    "nearfar": partial(ours, pixel_weight=100.0, unchanged_share=0.0, **NORMALIZED, **ADVERSARIAL),
    "nearfar-unrelated": partial(plain_like_ours, **NORMALIZED, **ADVERSARIAL),
}


@dataclass(frozen=True)
class Row:
    """A defense.

    Parameters
    ----------
    network : str, optional
        Which of `NETWORKS` purifies; none if not given.
    neighbors : int
        How many nearest training images the classifier is asked about instead; 0 for not.
    detectors : bool
        Whether images are rejected: by their reconstruction error where neighbors are asked about,
        by MagNet's detectors elsewhere.
    hardened : bool
        Whether the classifier is trained on adversarial images, too.
    paper : sequence of float
        The paper's accuracies under transfer, for each ε.
    """

    network: str | None = None
    neighbors: int = 0
    detectors: bool = False
    hardened: bool = False
    paper: Sequence[float] = ()


NO_DEFENSE = "no-defense"
ROWS = {
    NO_DEFENSE: Row(),
    "autoencoder": Row("autoencoder"),
    "MagNet-reformer": Row("MagNet", paper=(0.9238, 0.7655, 0.614, 0.4242)),
    "MagNet-whole": Row("MagNet", detectors=True),
    "MagNet-like-ours": Row("MagNet-like-ours"),
    "NRE": Row("NRE", paper=(0.9802, 0.9056, 0.8489, 0.7166)),
    "NRE-denoising": Row("NRE-denoising"),
    "nearfar": Row("nearfar"),
    "nearfar-neighbors": Row("nearfar", neighbors=5),
    "nearfar-neighbors-whole": Row("nearfar", neighbors=5, detectors=True),
    "nearfar-unrelated": Row("nearfar-unrelated"),
    "nearfar-unrelated-neighbors": Row("nearfar-unrelated", neighbors=5),
    "adversarial-training": Row(hardened=True),
}


@dataclass(frozen=True)
class Budget:
    """Epochs of the networks that purify, of the target, and of its adversarial training."""

    networks: int
    classifier: int
    robust: int


class Defenses:
    """Makes the defenses of rows; a network or classifier that rows share is trained once.

    Parameters
    ----------
    reproduction : Reproduction
        Where networks are trained; classifiers are kept in the folder `classifiers`.
    learned, validation, held_out : Images
        What target and networks learn from, what detectors are calibrated on, and what the
        attacker's substitute learns from.
    choices : mapping
        What all networks have in common.
    """

    def __init__(
        self,
        reproduction: Reproduction,
        learned: Images,
        validation: Images,
        held_out: Images,
        budget: Budget,
        choices: dict[str, Any],
    ) -> None:
        self.reproduction, self.learned, self.held_out = reproduction, learned, held_out
        self.budget, self.choices = budget, choices
        self.clean = load_pixels(validation)
        self.device = resolve_device("auto")
        self.target = cache(self._make_target)
        self.substitute = cache(self._make_substitute)

    def make(self, row: Row, seed: int) -> DefendedClassifier:
        """Make the defense of a row, trained with this seed, with the target behind it."""
        classifier = self.target(row.hardened, seed)
        if row.network is None:
            return DefendedClassifier(nn.Identity(), classifier)
        epochs, track = self.budget.networks, self.reproduction.track
        config = self._training(row.network, seed)
        run = cell_name(row.network, seed)
        folder = self.reproduction.train(run, self.learned, config, [epochs])
        network, shape = network_after(folder, epochs), self.learned.shape
        if row.neighbors:
            bank = encode(network.encoder, self.learned, track)
            purifier = NeighborPurifier(network, shape, bank, votes=row.neighbors)
            clean = self.clean if row.detectors else None
            return purifier.to(self.device).defend(classifier, clean=clean, track=track)
        reformer = Purifier(network, shape).to(self.device)
        if row.detectors:
            return magnet(reformer, classifier, self.clean)
        return reformer.defend(classifier)

    def describe(self, row: Row, seed: int) -> dict[str, Any]:
        """Return everything that decides what a row is, as JSON holds it."""
        defense = {name: value for name, value in asdict(row).items() if name != "paper"}
        config = None if row.network is None else asdict(self._training(row.network, seed))
        return {"defense": defense, "config": config}

    def _training(self, name: str, seed: int) -> TrainConfig:
        return NETWORKS[name](self.budget.networks, seed=seed, **self.choices)

    def _make_target(self, hardened: bool, seed: int) -> Classifier:
        """Train what is attacked."""
        if hardened:
            return self._keep(
                "hardened",
                seed,
                lambda: train_adversarially(
                    self.target(False, seed),
                    self.learned,
                    epsilon=ROBUST_EPSILON,
                    epochs=self.budget.robust,
                    seed=seed,
                ),
            )
        return self._keep(
            "target",
            seed,
            lambda: train_classifier(
                "target",
                self.learned,
                epochs=self.budget.classifier,
                seed=seed,
                track=self.reproduction.track,
            ),
        )

    def _make_substitute(self, hardened: bool, seed: int) -> Classifier:
        """Train what the attacker has in place of the target, on what the target says."""
        return self._keep(
            "hardened-substitute" if hardened else "substitute",
            seed,
            lambda: train_classifier(
                "substitute",
                self.held_out,
                epochs=SUBSTITUTE_EPOCHS,
                seed=seed,
                labels=predict_classes(self.target(hardened, seed), load_pixels(self.held_out)),
                track=self.reproduction.track,
            ),
        )

    def _keep(self, name: str, seed: int, make: Callable[[], Classifier]) -> Classifier:
        """Train a classifier, or read it if it was."""
        file = f"{cell_name(name, seed)}.safetensors"
        path = self.reproduction.folder / "classifiers" / file
        with self.reproduction.lock(path.stem):
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                save_classifier(path, make())
        return load_classifier(path).to(self.device)
