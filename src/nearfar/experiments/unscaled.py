"""SVMs on unscaled embeddings, with the defaults of scikit-learn: the likely protocol of Table 1.

The paper states γ = 0.01 and no other setting. By default, `sklearn.svm.SVC` uses C = 1, trains one
classifier for each pair of classes, and does not scale embeddings. The effect of γ therefore
depends on the variance of the embeddings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.svm import SVC

from nearfar.evaluation import LabeledEmbeddings, scores

C = 1.0
#: Products of γ and the total variance to sweep; 1 is the default γ = 1 / variance.
PRODUCTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def settings(samples: int | None = None) -> dict[str, Any]:
    """Return the hyperparameters of the SVMs by name, as JSON types.

    Parameters
    ----------
    samples : int, optional
        Number of training rows. Default: None (all).

    Examples
    --------
    >>> settings()["linear_svc"]["C"]
    1.0
    """
    common = {"C": C, "classes": "one-vs-one", "scaling": "none", "train_images": samples}
    swept = {
        sweep_name(product): {**common, "gamma": f"{product:g} / variance"} for product in PRODUCTS
    }
    return {"linear_svc": common, "rbf_svc": {**common, "gamma": scores.RBF_GAMMA}, **swept}


def sweep_name(product: float) -> str:
    """Return the name of the RBF SVM score for a product of γ and the total variance.

    Examples
    --------
    >>> sweep_name(0.3)
    'rbf_svc_0.3'
    """
    return f"rbf_svc_{product:g}"


def linear_svc(task: LabeledEmbeddings, samples: int) -> float:
    """Return the test accuracy of a linear SVM with C = 1, trained on `samples` rows.

    There is one classifier for each pair of classes (one-vs-one).
    """
    return _accuracy(SVC(kernel="linear", C=C, cache_size=scores.RBF_CACHE_MB), task, samples)


def rbf_svc(task: LabeledEmbeddings, samples: int, product: float | None = None) -> float:
    """Return the test accuracy of an RBF SVM with C = 1, trained on `samples` rows.

    Parameters
    ----------
    task : LabeledEmbeddings
        Embeddings and labels. The embeddings are not scaled.
    samples : int
        Number of training rows.
    product : float, optional
        Product of γ and the total variance of the embeddings. Default: γ = 0.01, independent of the
        variance.
    """
    gamma = scores.RBF_GAMMA if product is None else product / total_variance(task)
    return _accuracy(SVC(C=C, gamma=gamma, cache_size=scores.RBF_CACHE_MB), task, samples)


def total_variance(task: LabeledEmbeddings) -> float:
    """Return the sum of the variances of all dimensions over the training rows."""
    return float(np.maximum(task.train.var(0).sum(), np.finfo(np.float32).tiny))


def _accuracy(model: SVC, task: LabeledEmbeddings, samples: int) -> float:
    rng = np.random.default_rng(task.seed)
    rows = scores.stratified_rows(task.train_labels, samples, rng)
    model.fit(task.train[rows], task.train_labels[rows])
    return float(model.score(task.test, task.test_labels))
