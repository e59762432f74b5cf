"""Detection of likely label errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from nearfar.data import class_name

#: Inverse regularization strength of the classifier on standardized embeddings.
_C = 0.003
#: Number of folds, and number of rounds.
_FOLDS, _ROUNDS = 5, 2
#: Probability of its label below which an image is excluded from the last round.
_DOUBTFUL = 0.1
#: Accuracy, relative to guessing, below which embeddings are too weak.
_LEAST_GAIN = 0.25


class LabelErrors(NamedTuple):
    """Agreement of labels with embeddings.

    Attributes
    ----------
    confidence : float32[n]
        Probability of the given label, in [0, 1], according to classifiers that were not trained on
        the image.
    suggested : int64[n]
        Most probable label of each image.
    likely : bool[n]
        Whether the given label is likely wrong. This is the case if another label is the most
        probable, and is at least as probable as it is on average for the images with that label
        (confident learning, Northcutt et al. 2021).
    accuracy : float
        Fraction of images for which the given label is the most probable.

    Examples
    --------
    >>> confidence, likely = np.array([0.8, 0.2, 0.1]), np.array([False, True, True])
    >>> LabelErrors(confidence, np.array([0, 1, 0]), likely, 0.3).rows()
    array([2, 1])
    """

    confidence: npt.NDArray[np.float32]
    suggested: npt.NDArray[np.int64]
    likely: npt.NDArray[np.bool_]
    accuracy: float

    def rows(self) -> npt.NDArray[np.int64]:
        """Return the rows of images whose label is likely wrong, the least probable label first."""
        rows = np.flatnonzero(self.likely)
        return rows[np.argsort(self.confidence[rows], kind="stable")]


def find_label_errors(
    embeddings: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    *,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> LabelErrors | str:
    """Find labels that contradict the embeddings.

    If this is impossible, the reason is returned instead.

    Labels are predicted by logistic regression in five-fold cross-validation, in three rounds. In
    the last round, images whose label contradicts the earlier predictions are not used for
    training.

    Parameters
    ----------
    embeddings : float32[n, d]
        Embeddings.
    labels : int64[n]
        Class numbers.
    classes : sequence of str, optional
        Name of each class number, used in the returned reason.
    seed : int
        Random seed for the folds.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 50)
    >>> points = np.random.default_rng(0).normal(0, 1, (100, 2)) + 8 * np.eye(2)[labels]
    >>> labels[3] = 1
    >>> find_label_errors(points, labels).rows()
    array([3])
    """
    present, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(present) < 2:
        return "all images have the same label: label errors cannot be found"
    if sizes.min() < _FOLDS:
        rarest = class_name(present[sizes.argmin()], classes)
        return (
            f"class {rarest} has {sizes.min()} images: expected at least "
            f"{_FOLDS} per class to find label errors"
        )
    points = StandardScaler().fit_transform(embeddings)
    rows, total = np.arange(len(points)), np.zeros((len(points), len(present)))
    for fold_seed in range(seed, seed + _ROUNDS):
        total += _predict(points, numbers, np.ones(len(points), bool), fold_seed)
    accuracy = float((total.argmax(1) == numbers).mean())
    guessing = sizes.max() / len(labels)
    if accuracy < guessing + _LEAST_GAIN * (1 - guessing):
        return (
            f"the embeddings predict {accuracy:.0%} of the labels, and guessing "
            f"{guessing:.0%}: they are too weak to find label errors"
        )
    trusted = total[rows, numbers] >= _DOUBTFUL * _ROUNDS
    if np.bincount(numbers[trusted], minlength=len(present)).min() >= _FOLDS:
        total += _ROUNDS * _predict(points, numbers, trusted, seed + _ROUNDS)
    probabilities = total / total.sum(1, keepdims=True)
    confidence, best = probabilities[rows, numbers], probabilities.argmax(1)
    mean_confidence = np.bincount(numbers, confidence) / sizes
    likely = (best != numbers) & (probabilities[rows, best] >= mean_confidence[best])
    return LabelErrors(confidence.astype(np.float32), present[best], likely, accuracy)


def _predict(
    points: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    trusted: npt.NDArray[np.bool_],
    seed: int,
) -> npt.NDArray[np.float64]:
    """Return label probabilities (float[n, C]) from classifiers trained on the other folds."""
    probabilities = np.empty((len(points), labels.max() + 1))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for others, fold in folds.split(points, labels):
        train = others[trusted[others]]
        model = LogisticRegression(C=_C, max_iter=200).fit(points[train], labels[train])
        probabilities[fold] = model.predict_proba(points[fold])
    return probabilities
