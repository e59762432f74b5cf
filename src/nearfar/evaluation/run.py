"""Evaluation of a run against raw pixels and the network that training started from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from nearfar import runs
from nearfar.data import Images, hold_out, labels_like, require_labels
from nearfar.evaluation.protocol import Features, evaluate
from nearfar.evaluation.table import Evaluation
from nearfar.models import apply_to_all
from nearfar.progress import Track, silent
from nearfar.runs import Run


def evaluate_run(
    run: Run,
    train_images: Images,
    test_images: Images | None = None,
    *,
    device: torch.device,
    rbf_samples: int | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Evaluation:
    """Compare the embeddings of a run with raw pixels and with those of its initial network.

    The initial network is the plain autoencoder or, without a first phase, the untrained network.

    Parameters
    ----------
    run : Run
        Run to evaluate; its networks are moved to `device`.
    train_images, test_images : Images
        Labeled images of the run's shape. Without test images, a fifth of each class is held out
        from `train_images`.
    device : torch.device
        Device of the networks.
    rbf_samples, seed, track
        See `evaluate`.

    Raises
    ------
    NearfarError
        If labels are missing, or those of training and test images do not match.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar import NRE
    >>> from nearfar.data import images_from_array
    >>> from nearfar.runs import read_run
    >>> images = images_from_array(np.random.rand(30, 8, 8), labels=np.arange(30) % 2)
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = Path(parent, "run")
    ...     NRE(pretrain_epochs=1, epochs=1, device="cpu").fit(images).save(folder)
    ...     table = evaluate_run(read_run(folder), images, device=torch.device("cpu"))
    >>> list(table.rows)
    ['pixels', 'autoencoder', 'NRE']
    """
    labels = require_labels(train_images)
    if test_images is None:
        train, test = hold_out(train_images, seed)
        features = _features(run, train_images, device, track)
        rows = [
            Features(name, embeddings[train], embeddings[test])
            for name, embeddings in features.items()
        ]
        train_labels, test_labels = labels[train], labels[test]
    else:
        train_labels, test_labels = labels, labels_like(test_images, train_images)
        train_features, test_features = (
            _features(run, images, device, track) for images in (train_images, test_images)
        )
        rows = [
            Features(name, embeddings, test_features[name])
            for name, embeddings in train_features.items()
        ]
    return evaluate(
        rows, train_labels, test_labels, rbf_samples=rbf_samples, seed=seed, track=track
    )


def read_scores(folder: str | os.PathLike[str]) -> Evaluation | None:
    """Read the scores in a run folder; None if it was not evaluated.

    Raises
    ------
    NearfarError
        If the file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_scores(Path(folder)) is None
    True
    """
    folder = Path(folder)
    saved = runs.read_evaluation(folder)
    if saved is None:
        return None
    with runs.reading(folder, runs.EVALUATION):
        return Evaluation.from_dict(saved)


def _features(
    run: Run, images: Images, device: torch.device, track: Track
) -> dict[str, npt.NDArray[np.float32]]:
    """Return embeddings of the images by representation, float32[n, d]."""
    representations = {
        "pixels": torch.nn.Flatten(),
        run.initial_method: run.initial.encoder.to(device),
        run.method: run.network.encoder.to(device),
    }
    return {
        name: apply_to_all(
            encoder, images, device=device, track=track, description=f"encoding: {name}"
        ).numpy()
        for name, encoder in representations.items()
    }
