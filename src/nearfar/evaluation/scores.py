"""Scores of labeled embeddings by scikit-learn's classifiers and clusterings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import SVC

from nearfar.evaluation.linear_svm import LinearSVM
from nearfar.fields import check_fields

Embeddings = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

#: C of the linear SVM is the best of these on a fifth of the training rows, of at most so many.
LINEAR_CS = (0.01, 0.1, 1.0)
CHOICE_ROWS = 20_000
RBF_C = 10.0
RBF_GAMMA = 0.01
RBF_CACHE_MB = 1000
NEIGHBORS = 5
PROBE_C = 1.0
PROBE_DRAWS = 10
PROBE_ITERATIONS = 1000
KMEANS_STARTS = 10

#: Total variance of the embeddings that makes a γ of 0.01 one over it, the usual heuristic.
TOTAL_VARIANCE = 1 / RBF_GAMMA


@dataclass(frozen=True)
class Score:
    """A score from 0 to 1 (ARI: from −0.5), with its standard deviation if it was drawn again."""

    mean: float
    std: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        """Percent, with one decimal."""
        spread = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{spread}"


@dataclass(frozen=True)
class LabeledEmbeddings:
    """Labeled training and test embeddings, float[n, d] and int64[n]."""

    train: Embeddings
    train_labels: Labels
    test: Embeddings
    test_labels: Labels
    seed: int

    def scaled(self) -> LabeledEmbeddings:
        """Center the embeddings, and scale them by the one number that makes their variance 100."""
        center = self.train.mean(0)
        total = float(np.maximum(self.train.var(0).sum(), np.finfo(np.float32).tiny))
        scale = np.float32((TOTAL_VARIANCE / total) ** 0.5)
        return replace(self, train=(self.train - center) * scale, test=(self.test - center) * scale)

    def only(self, rows: npt.NDArray[np.intp]) -> LabeledEmbeddings:
        """Learn from some of the training rows."""
        return replace(self, train=self.train[rows], train_labels=self.train_labels[rows])


def settings(rbf_samples: int | None = None) -> dict[str, Any]:
    """Return all that decides the scores beside embeddings and labels, as JSON holds it.

    Parameters
    ----------
    rbf_samples : int, optional
        How many rows the RBF SVM learns from; all if not given.
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
    """Accuracy of a linear SVM on embeddings whose every dimension is standardized.

    C is chosen for each representation on training rows: a narrow embedding wants another than
    pixels.
    """
    choice = _validation(task)
    models = [make_pipeline(StandardScaler(), LinearSVM(C=c)) for c in LINEAR_CS]
    best = max(models, key=lambda model: _accuracy(model, choice).mean)
    return _accuracy(best, task)


def rbf_svm(task: LabeledEmbeddings, samples: int) -> Score:
    """Accuracy of an SVM with an RBF kernel of γ = 0.01, trained on `samples` of the rows.

    The paper gives γ without the scale of the embeddings. `Task.scaled` makes it one over the total
    variance for any representation, so that none is favored by its scale.
    """
    rng = np.random.default_rng(task.seed)
    rows = stratified_rows(task.train_labels, samples, rng)
    model = SVC(C=RBF_C, gamma=RBF_GAMMA, cache_size=RBF_CACHE_MB)
    return _accuracy(model, task.scaled().only(rows))


def nearest_neighbors(task: LabeledEmbeddings) -> Score:
    """Accuracy of the vote of the 5 nearest training embeddings by cosine."""
    # Unit vectors are ordered by distance as by cosine, for which scikit-learn has no fast path.
    unit = replace(task, train=normalize(task.train), test=normalize(task.test))
    return _accuracy(KNeighborsClassifier(NEIGHBORS, algorithm="brute"), unit)


def linear_probe(task: LabeledEmbeddings, labels_per_class: int) -> Score:
    """Accuracy of logistic regression on few labels, mean and deviation over 10 draws of them."""
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
        accuracies.append(_accuracy(model, scaled.only(rows)).mean)
    return Score(float(np.mean(accuracies)), float(np.std(accuracies, ddof=1)))


def clustering(task: LabeledEmbeddings) -> tuple[Score, Score]:
    """NMI and ARI of k-means on the test embeddings, with as many clusters as there are classes."""
    classes = len(np.unique(task.train_labels))
    groups = KMeans(classes, n_init=KMEANS_STARTS, random_state=task.seed).fit_predict(task.test)
    return (
        Score(float(normalized_mutual_info_score(task.test_labels, groups))),
        Score(float(adjusted_rand_score(task.test_labels, groups))),
    )


def _validation(task: LabeledEmbeddings) -> LabeledEmbeddings:
    """Learn from four fifths of the training rows, in all at most `CHOICE_ROWS`; test on others."""
    labels = task.train_labels
    rng = np.random.default_rng(task.seed)
    rows = stratified_rows(labels, min(CHOICE_ROWS, len(labels)), rng)
    learned = stratified_rows(labels[rows], len(rows) * 4 // 5, rng)
    tested = np.setdiff1d(np.arange(len(rows)), learned)
    some = task.only(rows)
    return replace(
        some.only(learned), test=some.train[tested], test_labels=some.train_labels[tested]
    )


def stratified_rows(labels: Labels, size: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Draw `size` rows, of every class the share that it has in `labels`, and at least one."""
    # The rows of each class, shuffled, are spread evenly over 0…1; the first ones are taken.
    position = np.empty(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        position[rows] = np.arange(len(rows)) / len(rows)
    return np.sort(np.argsort(position, kind="stable")[:size])


def _accuracy(model: ClassifierMixin, task: LabeledEmbeddings) -> Score:
    """Fit on the training rows, and score the test rows."""
    return Score(float(model.fit(task.train, task.train_labels).score(task.test, task.test_labels)))
