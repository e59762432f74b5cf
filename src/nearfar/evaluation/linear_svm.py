"""Linear SVM with the objective of scikit-learn's LinearSVC and a faster solver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin

#: Gradient tolerance of the mean loss; the gradient starts at about 1.
TOLERANCE = 1e-5
MAX_ITERATIONS = 2000
#: Minimum mean square along a kept axis, relative to the maximum; less is rounding error.
_RANK_TOLERANCE = 1e-9


class LinearSVM(ClassifierMixin, BaseEstimator):
    """One-vs-rest linear SVM with the squared hinge loss, like `sklearn.svm.LinearSVC`.

    The objective is ½‖w‖² + C Σ max(0, 1 − y wᵀx)². As in LinearSVC, w includes the intercept.
    L-BFGS minimizes the objective for all classes at once, on embeddings rotated to their
    principal axes. On 50,000 standardized MNIST images, this solver is more than ten times as fast
    as liblinear, which processes one sample at a time.

    Parameters
    ----------
    C : float
        Weight of the loss, > 0.

    Attributes
    ----------
    classes_ : ndarray
        The k distinct labels, in ascending order.
    weights_ : float32[d + 1, k]
        Weights, with one column per class. The last row holds the intercepts.

    Examples
    --------
    >>> embeddings = np.array([[-1.0], [-2.0], [1.0], [2.0]], np.float32)
    >>> LinearSVM().fit(embeddings, np.array([0, 0, 1, 1])).predict(np.float32([[-3], [3]]))
    array([0, 1])
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit(self, X: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> LinearSVM:
        """Fit the weights to embeddings `X` (float[n, d]) with labels `y` ([n])."""
        return self._fit(_Rotated.to_principal_axes(X), y)

    def _fit(self, rotated: _Rotated, y: npt.NDArray[np.int64]) -> LinearSVM:
        """Fit the weights to rotated embeddings with labels `y` ([n])."""
        self.classes_ = np.unique(y)
        signs = np.where(y[:, None] == self.classes_, np.float32(1), np.float32(-1))
        regularization = 1 / (self.C * len(y))
        # Along the principal axes, scaled by the curvature of the loss, few iterations are needed.
        scale = 1 / np.sqrt(2 * rotated.variances + regularization)
        inputs = rotated.inputs * scale.astype(np.float32)
        penalty = (regularization * np.square(scale))[:, None]
        shape = (len(scale), len(self.classes_))

        def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            weights = flat.reshape(shape)
            hinge = np.maximum(1 - signs * (inputs @ weights.astype(np.float32)), 0)
            loss = (penalty * np.square(weights)).sum() / 2 + (
                np.square(hinge).sum(dtype=np.float64) / len(inputs)
            )
            gradient = penalty * weights - 2 / len(inputs) * (inputs.T @ (signs * hinge))
            return loss, gradient.ravel()

        result = minimize(
            objective,
            np.zeros(shape).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": TOLERANCE, "maxiter": MAX_ITERATIONS, "maxcor": 20},
        )
        weights = scale[:, None] * result.x.reshape(shape)
        self.weights_ = (rotated.axes @ weights).astype(np.float32)
        return self

    def decision_function(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the class scores (float32[n, k]) of embeddings `X` (float[n, d])."""
        return _with_ones(X) @ self.weights_

    def predict(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Return the labels with the largest score ([n]) for embeddings `X` (float[n, d])."""
        return self.classes_[self.decision_function(X).argmax(1)]


def fit_each(
    models: Iterable[LinearSVM], X: npt.NDArray[np.float32], y: npt.NDArray[np.int64]
) -> list[LinearSVM]:
    """Fit several models to the same embeddings, computing the principal axes only once."""
    rotated = _Rotated.to_principal_axes(X)
    return [model._fit(rotated, y) for model in models]


class _Rotated(NamedTuple):
    """Embeddings with a constant input of 1, rotated to the principal axes.

    Attributes
    ----------
    inputs : float32[n, r]
        Coordinates of the n embeddings along the r principal axes.
    axes : float32[d + 1, r]
        Principal axes, one per column.
    variances : float64[r]
        Mean square of the coordinates along each axis.
    """

    inputs: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float32]
    variances: npt.NDArray[np.float64]

    @classmethod
    def to_principal_axes(cls, embeddings: npt.NDArray[np.float32]) -> _Rotated:
        """Return the embeddings (float[n, d]), rotated to their principal axes."""
        raw = _with_ones(embeddings)
        axes, variances = _principal_axes(raw)
        return cls(raw @ axes, axes, variances)


def _principal_axes(
    inputs: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return the principal axes of `inputs` (float32[d, r]) and the mean squares along them.

    `inputs` is float32[n, d]; the mean squares are float64[r].
    """
    n, d = inputs.shape
    wide = n < d
    gram = (inputs @ inputs.T if wide else inputs.T @ inputs).astype(np.float64) / n
    values, vectors = np.linalg.eigh(gram)
    kept = values > values[-1] * _RANK_TOLERANCE
    values, vectors = values[kept], vectors[:, kept]
    if wide:
        vectors = inputs.T @ (vectors / np.sqrt(n * values))
    return vectors.astype(np.float32), values


def _with_ones(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the embeddings with an additional column of ones, for the intercept."""
    return np.hstack([embeddings, np.ones((len(embeddings), 1), np.float32)], dtype=np.float32)
