"""The rows of Table 3: defenses, and how their networks are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nearfar.defense.magnet import NOISE
from nearfar.reproduce.budget import ours, plain, plain_like_ours, relational
from nearfar.training.config import TrainConfig

#: What our network learns to undo.
ADVERSARIAL: dict[str, Any] = {
    "pretext": "denoising",
    "noise": "adversarial",
    "noise_level": 0.35,
    "precision": "bf16",
}
#: What MagNet learns to undo.
GAUSSIAN: dict[str, Any] = {"pretext": "denoising", "noise": "gaussian", "noise_level": NOISE}
WEIGHTS = (0.6, 0.2, 0.2)
NETWORKS: dict[str, Callable[..., TrainConfig]] = {
    "autoencoder": plain,
    "MagNet": partial(plain, **GAUSSIAN),
    "NRE": partial(relational, weights=WEIGHTS),
    "NRE-denoising": partial(relational, weights=WEIGHTS, pixel_weight=1000.0, **GAUSSIAN),
    "MagNet-like-ours": partial(plain_like_ours, precision="bf16", **GAUSSIAN),
    "nearfar": partial(ours, **ADVERSARIAL),
    "nearfar-unrelated": partial(plain_like_ours, **ADVERSARIAL),
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
