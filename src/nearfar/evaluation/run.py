"""Evaluating a trained run beside raw pixels and the network that it started from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from nearfar import runs
from nearfar.data import Images, require_labels
from nearfar.data.labels import hold_out, labels_like
from nearfar.evaluation.protocol import Features, evaluate
from nearfar.evaluation.table import Evaluation
from nearfar.models import apply_to_all
from nearfar.progress import Track, silent
from nearfar.runs import TrainedRun


def evaluate_run(
    run: TrainedRun,
    train_images: Images,
    test_images: Images | None = None,
    *,
    device: torch.device,
    rbf_samples: int | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Evaluation:
    """Compare NRE's embeddings with raw pixels, and with those of the plain autoencoder before it.

    If there was none, because relational training came first, that row is "untrained".

    Parameters
    ----------
    train_images, test_images : Images
        Labeled images of the run's shape. Without test images, a fifth of each class is held out
        of `train_images`.
    rbf_samples, seed
        See `nearfar.evaluation.evaluate`.

    Raises
    ------
    NearfarError
        If there are no labels, or the labels of the two do not fit together.
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
        learned, tested = (
            _features(run, images, device, track) for images in (train_images, test_images)
        )
        rows = [Features(name, embeddings, tested[name]) for name, embeddings in learned.items()]
    return evaluate(
        rows, train_labels, test_labels, rbf_samples=rbf_samples, seed=seed, track=track
    )


def read_scores(folder: Path) -> Evaluation | None:
    """Read the scores that are kept in a run folder, if there are any.

    Raises
    ------
    NearfarError
        If they are damaged.
    """
    saved = runs.read_evaluation(folder)
    if saved is None:
        return None
    with runs.reading(folder, runs.EVALUATION):
        return Evaluation.from_dict(saved)


def _features(
    run: TrainedRun, images: Images, device: torch.device, track: Track
) -> dict[str, npt.NDArray[np.float32]]:
    """Return each representation of the images, float32[n, d]."""
    representations = {
        "pixels": torch.nn.Flatten(),
        run.start: run.pretrained.encoder.to(device),
        "NRE": run.autoencoder.encoder.to(device),
    }
    return {
        name: apply_to_all(
            encoder, images, device=device, track=track, description=f"encoding: {name}"
        ).numpy()
        for name, encoder in representations.items()
    }
