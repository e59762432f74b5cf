"""Images whose label is likely wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from sklearn.preprocessing import normalize

#: Ridge penalties to choose from, relative to the mean variance of a feature.
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
#: Accuracy over that of guessing below which embeddings say nothing about labels.
_LEAST_GAIN = 0.25
#: Fewest images per class.
_LEAST_IMAGES = 5
_ROUNDS = 3


class LabelErrors(NamedTuple):
    """Agreement of labels with embeddings.

    Attributes
    ----------
    margins : float32[n]
        Score of the given label minus that of the best other one, by a classifier that has not
        seen the image: about 1 if the label fits, below 0 if another fits better.
    suggested : int64[n]
        The label that fits best.
    accuracy : float
        Share of the images whose given label fits best.

    Examples
    --------
    >>> LabelErrors(np.array([0.8, -0.5, -0.1]), np.array([0, 1, 1]), 0.3).rows()
    array([1, 2])
    """

    margins: npt.NDArray[np.float32]
    suggested: npt.NDArray[np.int64]
    accuracy: float

    def rows(self) -> npt.NDArray[np.int64]:
        """Return images that another label fits better, the clearest first."""
        rows = np.flatnonzero(self.margins < 0)
        return rows[np.argsort(self.margins[rows], kind="stable")]


def find_label_errors(
    embeddings: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> LabelErrors | str:
    """Find labels that embeddings contradict, or say why none can be told.

    A ridge classifier scores each image without having learned from it, by the closed form of
    leave-one-out. Images whose label it contradicts are then left out, and it is fitted again.

    Parameters
    ----------
    embeddings : float32[n, d]
        Embeddings.
    labels : int64[n]
        Class numbers.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 50)
    >>> points = np.random.default_rng(0).normal(0, 1, (100, 2)) + 8 * np.eye(2)[labels]
    >>> labels[3] = 1
    >>> find_label_errors(points, labels).rows()
    array([3])
    """
    classes, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        return "all images have one label: label errors cannot be told"
    if sizes.min() < _LEAST_IMAGES:
        return (
            f"label {classes[sizes.argmin()]} has {sizes.min()} images: expected at least "
            f"{_LEAST_IMAGES} of each to tell label errors"
        )
    features = _features(embeddings)
    targets = np.eye(len(classes))[numbers]
    equal = np.ones(len(features))
    found = {each: _leave_one_out(features, targets, equal, each) for each in _PENALTIES}
    penalty = max(found, key=lambda each: _accuracy(found[each], numbers))
    scores, accuracy = found[penalty], _accuracy(found[penalty], numbers)
    guessing = sizes.max() / len(labels)
    if accuracy < guessing + _LEAST_GAIN * (1 - guessing):
        return (
            f"the embeddings give {accuracy:.0%} of the labels, where guessing gives "
            f"{guessing:.0%}: they are too weak to tell label errors"
        )
    for _ in range(_ROUNDS - 1):
        trusted = (_margins(scores, numbers) > 0).astype(float)
        scores = _leave_one_out(features, targets, trusted, penalty)
    return LabelErrors(
        _margins(scores, numbers).astype(np.float32), classes[scores.argmax(1)], accuracy
    )


def _features(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return unit embeddings, standardized, with a constant."""
    unit = normalize(embeddings).astype(np.float64)
    unit = (unit - unit.mean(0)) / unit.std(0).clip(1e-6)
    return np.concatenate([unit, np.ones((len(unit), 1))], 1)


def _leave_one_out(
    features: npt.NDArray[np.float64],
    targets: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    penalty: float,
) -> npt.NDArray[np.float64]:
    """Return the scores of a weighted ridge regression that has not seen each row, float[n, C]."""
    weighted = features * weights[:, None]
    normal = weighted.T @ features
    normal += penalty * np.trace(normal) / len(normal) * np.eye(len(normal))
    factor = cho_factor(normal)
    fitted = features @ cho_solve(factor, weighted.T @ targets)
    leverage = weights * (features * cho_solve(factor, features.T).T).sum(1)
    leverage = leverage.clip(max=1 - 1e-6)[:, None]
    return (fitted - leverage * targets) / (1 - leverage)


def _margins(
    scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    rows = np.arange(len(scores))
    others = scores.copy()
    others[rows, labels] = -np.inf
    return scores[rows, labels] - others.max(1)


def _accuracy(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    return float((scores.argmax(1) == labels).mean())
