"""The linear SVM of scikit-learn's LinearSVC, fitted in seconds to tens of thousands of images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin

#: Largest slope that is left of the mean loss, whose slope at the start is about 1.
TOLERANCE = 1e-4
ITERATIONS = 2000


class LinearSVM(ClassifierMixin, BaseEstimator):
    """One squared-hinge SVM for each class against the rest, as `sklearn.svm.LinearSVC`.

    The objective is LinearSVC's, ½‖w‖² + C Σ max(0, 1 − y wᵀx)² with the intercept in w, and so is
    the minimum. The way there is another: liblinear visits one sample at a time, and on 50,000
    standardized MNIST images had not converged when L-BFGS on matrices was ten times done.

    Parameters
    ----------
    C : float
        Weight of the loss.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    weights_ : float32[d + 1, k]
        A column for each class; the last row holds the intercepts.
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit(self, X: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> LinearSVM:
        """Fit to embeddings float[n, d] and labels [n]."""
        inputs = _with_ones(X)
        self.classes_ = np.unique(y)
        signs = np.where(y[:, None] == self.classes_, np.float32(1), np.float32(-1))
        shape = (inputs.shape[1], len(self.classes_))
        regularization = 1 / (self.C * len(inputs))

        def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            weights = flat.reshape(shape)
            short = np.maximum(1 - signs * (inputs @ weights.astype(np.float32)), 0)
            loss = regularization / 2 * flat @ flat + (
                np.square(short).sum(dtype=np.float64) / len(inputs)
            )
            slope = regularization * weights - 2 / len(inputs) * (inputs.T @ (signs * short))
            return loss, slope.ravel()

        found = minimize(
            objective,
            np.zeros(shape).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": TOLERANCE, "maxiter": ITERATIONS, "maxcor": 20},
        )
        self.weights_ = found.x.reshape(shape).astype(np.float32)
        return self

    def decision_function(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the margin to each class's plane, float32[n, k]."""
        return _with_ones(X) @ self.weights_

    def predict(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Return the class with the largest margin, [n]."""
        return self.classes_[self.decision_function(X).argmax(1)]


def _with_ones(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Append the constant that the intercept is the weight of."""
    return np.hstack([embeddings, np.ones((len(embeddings), 1), np.float32)], dtype=np.float32)
