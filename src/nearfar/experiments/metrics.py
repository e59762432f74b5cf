"""What is measured of a trained network, in every table alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nearfar.data import Images, require_labels
from nearfar.evaluation import LabeledEmbeddings, scores
from nearfar.models import Autoencoder, apply, apply_to_all, resolve_device
from nearfar.progress import Track, silent
from nearfar.runs import read_snapshot

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Classifiers:
    """What embeddings are scored by.

    Parameters
    ----------
    names : tuple of str
        Some of linear_svm, rbf_svm, knn.
    rbf_samples : int, optional
        The most training images that the RBF SVM learns from; all if not given.
    """

    names: tuple[str, ...]
    rbf_samples: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the scores beside embeddings and labels."""
        known = scores.settings(self.rbf_samples)
        return {name: known[name] for name in self.names}

    def score(self, task: LabeledEmbeddings) -> dict[str, float]:
        """Return the accuracy of each."""
        images = len(task.train)
        measures: dict[str, Callable[[], scores.Score]] = {
            "linear_svm": lambda: scores.linear_svm(task),
            "rbf_svm": lambda: scores.rbf_svm(task, min(self.rbf_samples or images, images)),
            "knn": lambda: scores.nearest_neighbors(task),
        }
        return {name: measures[name]().mean for name in self.names}


def network_after(folder: Path, epochs: int) -> Autoencoder:
    """Read the network of a run as it was after so many epochs, onto the device."""
    return read_snapshot(folder, epochs).to(resolve_device("auto")).eval()


def task_on(
    encoder: Network, train: Images, test: Images, seed: int, track: Track = silent
) -> LabeledEmbeddings:
    """Embeddings of labeled images to learn from and to be tested on."""
    learned, tested = (encode(encoder, images, track).numpy() for images in (train, test))
    return LabeledEmbeddings(learned, require_labels(train), tested, require_labels(test), seed)


def encode(network: Network, images: Images, track: Track = silent) -> Tensor:
    """Apply a network to all images, float32[n, …]."""
    return apply_to_all(network, images, device=resolve_device("auto"), track=track)


def reconstruct(network: Autoencoder, images: Images, track: Track = silent) -> Tensor:
    """What a network makes of all images, float32[n, c, h, w]."""
    return encode(lambda batch: network(batch).reconstruction, images, track)


def pixel_error(network: Autoencoder, images: Images, track: Track = silent) -> float:
    """Mean squared error of the pixels of the reconstructions."""

    def error(batch: Tensor) -> Tensor:
        made = network(batch).reconstruction.float()
        return mse_loss(made, batch, reduction="none").flatten(1).mean(1)

    device = resolve_device("auto")
    errors = apply(error, images, device=device, track=track, description="reconstructing")
    return float(torch.cat([values for _, values in errors]).double().mean())
