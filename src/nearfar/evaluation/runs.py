"""Evaluating a trained run beside raw pixels and the network that it started from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import train_test_split

from nearfar import artifacts
from nearfar.artifacts import TrainedRun
from nearfar.data import Images, require_labels
from nearfar.errors import NearfarError
from nearfar.evaluation.protocol import Features, evaluate
from nearfar.evaluation.table import Evaluation
from nearfar.models import apply_to_all
from nearfar.progress import Track, silent

#: The share of images of each class held out for testing, if no test images are given.
HOLDOUT = 0.2


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
    """Compare NRE's codes with raw pixels, and with those of the plain autoencoder before it.

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
    features = _features(run, train_images, device, track)
    if test_images is None:
        train, test = _hold_out(labels, train_images.name, seed)
        rows = [Features(name, codes[train], codes[test]) for name, codes in features.items()]
        train_labels, test_labels = labels[train], labels[test]
    else:
        train_labels, test_labels = labels, _labels_by_name(test_images, train_images)
        tested = _features(run, test_images, device, track)
        rows = [Features(name, codes, tested[name]) for name, codes in features.items()]
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
    saved = artifacts.read_evaluation(folder)
    if saved is None:
        return None
    with artifacts.reading(folder, artifacts.EVALUATION):
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


def _hold_out(
    labels: npt.NDArray[np.int64], name: str, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split rows into training and test rows, class by class."""
    try:
        train, test = train_test_split(
            np.arange(len(labels)), test_size=HOLDOUT, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise NearfarError(
            f"{name!r} is too small to hold out a fifth of each class: give test images"
        ) from error
    return train, test


def _labels_by_name(images: Images, like: Images) -> npt.NDArray[np.int64]:
    """Return labels numbered as those of `like`, whose classes may be others or in other places."""
    labels = require_labels(images)
    if images.classes is None or like.classes is None or images.classes == like.classes:
        return labels
    numbers = {name: number for number, name in enumerate(like.classes)}
    unknown = [name for name in images.classes if name not in numbers]
    if unknown:
        raise NearfarError(
            f"{images.name!r} has the class {unknown[0]!r}, which {like.name!r} has not: "
            "expected the same classes"
        )
    return np.array([numbers[name] for name in images.classes])[labels]
