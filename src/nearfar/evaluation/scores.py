"""Scores of labeled embeddings by classifiers and clustering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.base import ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import SVC

from nearfar.evaluation.linear_svm import LinearSVM, fit_each
from nearfar.fields import check_fields, check_ranges

Embeddings = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

#: Candidate values of C for the linear SVM.
LINEAR_CS = (0.01, 0.1, 1.0)
#: Maximum number of training rows for the choice of C.
CHOICE_ROWS = 20_000
#: C, γ and cache size of the RBF SVM.
RBF_C = 10.0
RBF_GAMMA = 0.01
RBF_CACHE_MB = 1000
#: k of the k-NN classifier.
NEIGHBORS = 5
#: C, label draws and iterations of the linear probes.
PROBE_C = 1.0
PROBE_DRAWS = 10
PROBE_ITERATIONS = 1000
#: Restarts of k-means.
KMEANS_STARTS = 10

#: Total variance of scaled embeddings, for which γ is the default 1 / variance.
TOTAL_VARIANCE = 1 / RBF_GAMMA


@dataclass(frozen=True)
class Score:
    """Score between 0 and 1 (ARI: between −0.5 and 1).

    Parameters
    ----------
    mean : float
        Score, or mean score over random draws.
    std : float, optional
        Standard deviation over random draws; None if there is only one score.

    Examples
    --------
    >>> print(Score(0.781, std=0.025))
    78.1 ± 2.5
    """

    mean: float
    std: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, mean="[-1, 1]", std=">= 0")

    def __str__(self) -> str:
        """Return the score in percent, with one decimal, such as "78.1 ± 2.5"."""
        spread = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{spread}"


@dataclass(frozen=True)
class LabeledEmbeddings:
    """Embeddings and labels of training and test images, from which every score is computed.

    Parameters
    ----------
    train, test : float32[n, d] and float32[m, d]
        Embeddings of training and test images.
    train_labels, test_labels : int64[n] and int64[m]
        Class numbers.
    seed : int
        Seed of random draws and k-means, ≥ 0.

    Examples
    --------
    >>> points, labels = np.float32([[0, 1], [1, 0]] * 5), np.array([0, 1] * 5)
    >>> print(nearest_neighbors(LabeledEmbeddings(points, labels, points, labels, seed=0)))
    100.0
    """

    train: Embeddings
    train_labels: Labels
    test: Embeddings
    test_labels: Labels
    seed: int

    def scaled(self) -> LabeledEmbeddings:
        """Return a centered copy, scaled to a total variance of 100 over all dimensions.

        Mean and scale are computed from the training embeddings. All dimensions are multiplied by
        the same factor.
        """
        center = self.train.mean(0)
        total = float(np.maximum(self.train.var(0).sum(), np.finfo(np.float32).tiny))
        scale = np.float32((TOTAL_VARIANCE / total) ** 0.5)
        return replace(self, train=(self.train - center) * scale, test=(self.test - center) * scale)

    def subset(self, rows: npt.NDArray[np.intp]) -> LabeledEmbeddings:
        """Return a copy with only the given training rows."""
        return replace(self, train=self.train[rows], train_labels=self.train_labels[rows])


def settings(rbf_samples: int | None = None) -> dict[str, Any]:
    """Return the hyperparameters of the classifiers, as JSON types.

    Parameters
    ----------
    rbf_samples : int, optional
        Number of training rows for the RBF SVM. Default: None (all).

    Examples
    --------
    >>> settings()["knn"]
    {'k': 5, 'similarity': 'cosine'}
    """
    uniform = f"all dimensions together to variance {TOTAL_VARIANCE:g}"
    return {
        "linear_svm": {
            "C": list(LINEAR_CS),
            "choice": "the best on a fifth of the training images",
            "scaling": "each dimension to variance 1",
        },
        "rbf_svm": {
            "C": RBF_C,
            "gamma": RBF_GAMMA,
            "scaling": uniform,
            "train_images": rbf_samples,
        },
        "knn": {"k": NEIGHBORS, "similarity": "cosine"},
        "probe": {"C": PROBE_C, "scaling": uniform, "draws": PROBE_DRAWS},
    }


def linear_svm(task: LabeledEmbeddings) -> Score:
    """Return the test accuracy of a linear SVM on standardized embeddings.

    C is chosen on held-out training rows, separately for each representation, because short
    embeddings and pixels need different values.
    """
    choice = _standardized(_validation(task))
    models = fit_each(map(LinearSVM, LINEAR_CS), choice.train, choice.train_labels)
    best = max(models, key=lambda model: model.score(choice.test, choice.test_labels))
    return _accuracy(best, _standardized(task))


def rbf_svm(task: LabeledEmbeddings, samples: int) -> Score:
    """Return the test accuracy of an RBF SVM (γ = 0.01), trained on `samples` training rows.

    The paper states γ but not the scale of the embeddings. Here, embeddings are first scaled to a
    total variance of 1/γ (see `LabeledEmbeddings.scaled`), so their original scale has no effect.
    """
    rng = np.random.default_rng(task.seed)
    rows = stratified_rows(task.train_labels, samples, rng)
    scaled = task.scaled().subset(rows)
    # The kernel of all pairs takes less memory than wide embeddings and is much faster than in
    # libsvm, which computes one pair at a time.
    wide = scaled.train.shape[1] > len(rows)
    kernel = partial(rbf_kernel, gamma=RBF_GAMMA) if wide else "rbf"
    model = SVC(C=RBF_C, kernel=kernel, gamma=RBF_GAMMA, cache_size=RBF_CACHE_MB)
    return _accuracy(model, scaled)


def nearest_neighbors(task: LabeledEmbeddings) -> Score:
    """Return the test accuracy of a 5-NN classifier with cosine similarity."""
    # The distance of unit vectors ranks neighbors in the same order as the cosine, and is
    # faster in scikit-learn.
    unit = replace(task, train=normalize(task.train), test=normalize(task.test))
    return _accuracy(KNeighborsClassifier(NEIGHBORS, algorithm="brute"), unit)


def linear_probe(task: LabeledEmbeddings, labels_per_class: int) -> Score:
    """Return the test accuracy of logistic regression on `labels_per_class` labels per class.

    The score is the mean over 10 random draws of the labeled rows, with the standard deviation.
    """
    scaled = task.scaled()
    accuracies = []
    for draw in range(PROBE_DRAWS):
        rng = np.random.default_rng([task.seed, draw])
        rows = np.concatenate(
            [
                rng.choice(np.flatnonzero(task.train_labels == label), labels_per_class, False)
                for label in np.unique(task.train_labels)
            ]
        )
        model = LogisticRegression(C=PROBE_C, max_iter=PROBE_ITERATIONS)
        accuracies.append(_accuracy(model, scaled.subset(rows)).mean)
    return Score(float(np.mean(accuracies)), float(np.std(accuracies, ddof=1)))


def clustering(task: LabeledEmbeddings) -> tuple[Score, Score, Score]:
    """Return the accuracy, NMI and ARI of k-means clusters of the test embeddings.

    There are as many clusters as classes. The accuracy is computed for the best one-to-one
    assignment of clusters to classes.
    """
    classes = len(np.unique(task.train_labels))
    groups = KMeans(classes, n_init=KMEANS_STARTS, random_state=task.seed).fit_predict(task.test)
    shared = contingency_matrix(task.test_labels, groups)
    return (
        Score(float(shared[linear_sum_assignment(shared, maximize=True)].sum() / len(groups))),
        Score(float(normalized_mutual_info_score(task.test_labels, groups))),
        Score(float(adjusted_rand_score(task.test_labels, groups))),
    )


def _validation(task: LabeledEmbeddings) -> LabeledEmbeddings:
    """Return at most `CHOICE_ROWS` training rows, split into training and test rows to choose C.

    Four fifths of the rows are used for training, and one fifth is used for testing.
    """
    labels = task.train_labels
    rng = np.random.default_rng(task.seed)
    rows = stratified_rows(labels, min(CHOICE_ROWS, len(labels)), rng)
    train = stratified_rows(labels[rows], len(rows) * 4 // 5, rng)
    test = np.setdiff1d(np.arange(len(rows)), train)
    some = task.subset(rows)
    return replace(some.subset(train), test=some.train[test], test_labels=some.train_labels[test])


def stratified_rows(labels: Labels, size: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return `size` random rows, stratified by class, with at least one per class."""
    # Shuffled rows of each class are spread evenly over 0…1; the first `size` are drawn.
    position = np.empty(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        position[rows] = np.arange(len(rows)) / len(rows)
    return np.sort(np.argsort(position, kind="stable")[:size])


def _standardized(task: LabeledEmbeddings) -> LabeledEmbeddings:
    """Return a copy with each dimension standardized to mean 0 and variance 1 in training rows."""
    scaler = StandardScaler().fit(task.train)
    return replace(task, train=scaler.transform(task.train), test=scaler.transform(task.test))


def _accuracy(model: ClassifierMixin, task: LabeledEmbeddings) -> Score:
    """Fit the model to the training rows, and return the test accuracy."""
    return Score(float(model.fit(task.train, task.train_labels).score(task.test, task.test_labels)))
