"""Metrics of trained networks, used by all tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nearfar.data import Images, require_labels
from nearfar.evaluation import LabeledEmbeddings, scores
from nearfar.experiments import unscaled
from nearfar.models import Autoencoder, apply, apply_to_all, resolve_device
from nearfar.progress import Track, silent

#: Function of a batch of images, for example a network.
ImageFunction = Callable[[Tensor], Tensor]
CLASSIFIERS = ("linear_svm", "rbf_svm", "knn", *unscaled.settings())


@dataclass(frozen=True)
class Classifiers:
    """Classifiers for the evaluation of embeddings.

    Parameters
    ----------
    names : tuple of {"linear_svm", "rbf_svm", "knn", "linear_svc", "rbf_svc", ...}
        Names of the classifiers. For names with "_svc", see `nearfar.experiments.unscaled`.
    rbf_samples : int, optional
        Maximum number of training images for "rbf_svm" and for names with "_svc". Default: all.

    Examples
    --------
    >>> Classifiers(("knn",)).settings["knn"]["similarity"]
    'cosine'
    """

    names: tuple[str, ...]
    rbf_samples: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Hyperparameters of the classifiers, by name, as JSON types."""
        known = scores.settings(self.rbf_samples) | unscaled.settings(self.rbf_samples)
        return {name: known[name] for name in self.names}

    def score(self, task: LabeledEmbeddings) -> dict[str, float]:
        """Return the test accuracy of each classifier, between 0 and 1, by name."""
        samples = min(self.rbf_samples or len(task.train), len(task.train))
        measures: dict[str, Callable[[], float]] = {
            "linear_svm": lambda: scores.linear_svm(task).mean,
            "rbf_svm": lambda: scores.rbf_svm(task, samples).mean,
            "knn": lambda: scores.nearest_neighbors(task).mean,
            "linear_svc": partial(unscaled.linear_svc, task, samples),
            "rbf_svc": partial(unscaled.rbf_svc, task, samples),
            **{
                unscaled.sweep_name(product): partial(unscaled.rbf_svc, task, samples, product)
                for product in unscaled.PRODUCTS
            },
        }
        return {name: measures[name]() for name in self.names}


def task_on(
    encoder: ImageFunction, train: Images, test: Images, seed: int, track: Track = silent
) -> LabeledEmbeddings:
    """Return the embeddings and labels of training and test images."""
    learned, tested = (encode(encoder, images, track).numpy() for images in (train, test))
    return LabeledEmbeddings(learned, require_labels(train), tested, require_labels(test), seed)


def encode(network: ImageFunction, images: Images, track: Track = silent) -> Tensor:
    """Return the outputs of a network for all images (float32[n, ...])."""
    return apply_to_all(network, images, device=resolve_device("auto"), track=track)


def reconstruct(network: Autoencoder, images: Images, track: Track = silent) -> Tensor:
    """Return the reconstructions of all images (float32[n, c, h, w])."""
    return encode(lambda batch: network(batch).reconstruction, images, track)


def pixel_error(network: Autoencoder, images: Images, track: Track = silent) -> float:
    """Return the mean squared pixel error of the reconstructions of all images."""

    def error(batch: Tensor) -> Tensor:
        made = network(batch).reconstruction.float()
        return mse_loss(made, batch, reduction="none").flatten(1).mean(1)

    device = resolve_device("auto")
    errors = apply(error, images, device=device, track=track, description="reconstructing")
    return float(torch.cat([values for _, values in errors]).double().mean())
