"""Linear SVM with the objective of scikit-learn's LinearSVC, and a faster solver."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin

#: Largest remaining gradient of the mean loss, which starts at about 1.
TOLERANCE = 1e-4
MAX_ITERATIONS = 2000


class LinearSVM(ClassifierMixin, BaseEstimator):
    """One-vs-rest linear SVM with the squared hinge loss, like `sklearn.svm.LinearSVC`.

    The objective is that of LinearSVC: ½‖w‖² + C Σ max(0, 1 − y wᵀx)², with the intercept in w. The
    solver is L-BFGS on matrices. On 50,000 standardized MNIST images, it is more than ten times as
    fast as liblinear, which visits one sample at a time.

    Parameters
    ----------
    C : float
        Weight of the loss, > 0.

    Attributes
    ----------
    classes_ : ndarray
        Sorted labels.
    weights_ : float32[d + 1, k]
        One column per class; the last row holds the intercepts.

    Examples
    --------
    >>> embeddings = np.array([[-1.0], [-2.0], [1.0], [2.0]], np.float32)
    >>> LinearSVM().fit(embeddings, np.array([0, 0, 1, 1])).predict(np.float32([[-3], [3]]))
    array([0, 1])
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit(self, X: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> LinearSVM:
        """Fit the weights to embeddings, float[n, d], and labels, [n]."""
        inputs = _with_ones(X)
        self.classes_ = np.unique(y)
        signs = np.where(y[:, None] == self.classes_, np.float32(1), np.float32(-1))
        shape = (inputs.shape[1], len(self.classes_))
        regularization = 1 / (self.C * len(inputs))

        def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            weights = flat.reshape(shape)
            hinge = np.maximum(1 - signs * (inputs @ weights.astype(np.float32)), 0)
            loss = regularization / 2 * flat @ flat + (
                np.square(hinge).sum(dtype=np.float64) / len(inputs)
            )
            gradient = regularization * weights - 2 / len(inputs) * (inputs.T @ (signs * hinge))
            return loss, gradient.ravel()

        result = minimize(
            objective,
            np.zeros(shape).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": TOLERANCE, "maxiter": MAX_ITERATIONS, "maxcor": 20},
        )
        self.weights_ = result.x.reshape(shape).astype(np.float32)
        return self

    def decision_function(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the score of each class, float32[n, k], for embeddings, float[n, d]."""
        return _with_ones(X) @ self.weights_

    def predict(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Return the class with the largest score, [n], for embeddings, float[n, d]."""
        return self.classes_[self.decision_function(X).argmax(1)]


def _with_ones(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Append the constant input of the intercept."""
    return np.hstack([embeddings, np.ones((len(embeddings), 1), np.float32)], dtype=np.float32)
