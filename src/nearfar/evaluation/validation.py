"""Quick check of embeddings during training, compared with pixels and the initial encoder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nearfar.data import Images, Subset, require_labels
from nearfar.evaluation.run import small_pixels
from nearfar.models import apply_to_all
from nearfar.progress import Track, silent
from nearfar.runs import Run
from nearfar.training import Callback, Trainer

#: Maximum number of labeled images to use.
_MOST = 2_000
_K = 5


class Validation(Callback):
    """Callback that adds the 5-NN accuracy on labeled images to the metrics, as "knn_accuracy".

    The labels are not used for training. The class of each image is predicted from the five other
    images with the most similar embeddings.

    Parameters
    ----------
    images : Images
        Labeled images with the input shape of the network. A random subset of at most 2,000 images
        is used.

    Raises
    ------
    NearfarError
        If the images have no labels.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from nearfar import recipe, train
    >>> from nearfar.data import images_from_array
    >>> digits = load_digits()
    >>> images = images_from_array(digits.images / 16, labels=digits.target)
    >>> config = recipe("nearfar", epochs=1, clusters=4, batch_size=64)
    >>> run = train(images, config, callbacks=[Validation(images)])
    >>> run.log[0]["knn_accuracy"] > 0.5
    True
    """

    def __init__(self, images: Images) -> None:
        labels = require_labels(images)
        rows = np.sort(np.random.default_rng(0).permutation(len(images))[:_MOST])
        self.images, self.labels = Subset(images, rows), torch.from_numpy(labels[rows])

    def measure(self, trainer: Trainer) -> Mapping[str, float]:
        """See `Callback.measure`."""
        encoder = trainer.network.encoder
        training = encoder.training
        accuracy = self.accuracy(encoder.eval(), trainer.fabric.device)
        encoder.train(training)
        return {"knn_accuracy": accuracy}

    def accuracy(self, encoder: nn.Module, device: torch.device, *, track: Track = silent) -> float:
        """Return the 5-NN accuracy of the embeddings of an encoder, between 0 and 1."""
        return knn_accuracy(
            apply_to_all(encoder, self.images, device=device, track=track), self.labels
        )

    def verdict(self, run: Run, device: torch.device, *, track: Track = silent) -> str:
        """Return one line of text with the 5-NN accuracy of the trained encoder and of baselines.

        The baselines are raw pixels and the encoder before training.
        """
        pixels = apply_to_all(small_pixels, self.images, device=device)
        before, after = (
            apply_to_all(each.encoder.to(device).eval(), self.images, device=device, track=track)
            for each in (run.initial, run.network)
        )
        start = {"pretrained": "the pretrained encoder", "autoencoder": "the autoencoder"}
        name = start.get(run.initial_method, "the untrained encoder")
        return knn_verdict(after, {name: before, "pixels": pixels}, self.labels)


def knn_verdict(embeddings: Tensor, others: Mapping[str, Tensor], labels: Tensor) -> str:
    """Return one line of text that compares the 5-NN accuracies of several embeddings.

    Parameters
    ----------
    embeddings : float[n, d]
        Embeddings to judge.
    others : mapping of str to float[n, e]
        Other embeddings of the same images, by name, as baselines.
    labels : int[n]
        Class numbers.

    Examples
    --------
    >>> labels = torch.arange(12) // 6
    >>> print(knn_verdict(torch.eye(2)[labels], {"pixels": torch.ones(12, 3)}, labels))
    5-NN accuracy on 12 labeled images: 100.0% (±0.0%); pixels 50.0%: better than pixels
    """
    accuracy = knn_accuracy(embeddings, labels)
    error = (accuracy * (1 - accuracy) / len(labels)) ** 0.5
    compared = {name: knn_accuracy(other, labels) for name, other in others.items()}
    worse = [name for name, value in compared.items() if accuracy < value + error]
    listed = ", ".join(f"{name} {value:.1%}" for name, value in compared.items())
    return (
        f"5-NN accuracy on {len(labels):,} labeled images: {accuracy:.1%} (±{error:.1%}); "
        f"{listed}: {'not ' * bool(worse)}better than {' and '.join(worse or compared)}"
    )


def knn_accuracy(embeddings: Tensor, labels: Tensor) -> float:
    """Return the leave-one-out 5-NN accuracy of embeddings.

    Neighbors are the most similar embeddings by cosine similarity. Ties in the vote are broken in
    favor of nearer neighbors.

    Parameters
    ----------
    embeddings : float[n, d]
        Embeddings.
    labels : int[n]
        Class numbers.

    Returns
    -------
    float
        Accuracy, between 0 and 1.

    Examples
    --------
    >>> knn_accuracy(torch.eye(2).repeat_interleave(6, dim=0), torch.arange(12) // 6)
    1.0
    """
    rows = normalize(embeddings.float().flatten(1), dim=1)
    near = (rows @ rows.T).fill_diagonal_(-2).topk(min(_K, len(rows) - 1)).indices
    classes = int(labels.max()) + 1
    weights = 1 - 0.01 * torch.arange(near.shape[1])
    votes = torch.zeros(len(rows), classes).scatter_add_(
        1, labels[near], weights.expand(len(rows), -1)
    )
    return float((votes.argmax(1) == labels).double().mean())
