"""Evaluation protocol: the same labels, classifiers and random draws for all representations."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from nearfar.data import class_name
from nearfar.errors import NearfarError
from nearfar.evaluation import scores
from nearfar.evaluation.scores import Embeddings, LabeledEmbeddings, Labels, Score
from nearfar.evaluation.table import BLANK, Evaluation
from nearfar.progress import Track, silent

#: Labels per class of the linear probes.
PROBE_LABELS = (1, 10, 100)
#: Share of test images that are also training images at which a note is added.
LEAK_FRACTION = 0.01


@dataclass(frozen=True)
class Features:
    """Embeddings of training and test images in one representation: a row of the table.

    Parameters
    ----------
    name : str
        Name of the row.
    train, test : float32[n, d] and float32[m, d]
        Embeddings of training and test images.

    Raises
    ------
    NearfarError
        If the shapes do not match, or the embeddings contain NaN or infinity.

    Examples
    --------
    >>> Features("pixels", np.zeros((10, 64), np.float32), np.zeros((5, 64), np.float32)).name
    'pixels'
    """

    name: str
    train: Embeddings
    test: Embeddings

    def __post_init__(self) -> None:
        for part, embeddings in (("train", self.train), ("test", self.test)):
            if embeddings.ndim != 2 or embeddings.shape[1] == 0:
                raise NearfarError(
                    f"{part} embeddings of {self.name!r} have shape {embeddings.shape}: "
                    "expected (n, d)"
                )
            if not np.isfinite(embeddings).all():
                raise NearfarError(f"{part} embeddings of {self.name!r} hold NaN or infinity")
        if self.train.shape[1] != self.test.shape[1]:
            raise NearfarError(
                f"embeddings of {self.name!r} have {self.train.shape[1]} dimensions in training "
                f"and {self.test.shape[1]} in the test: expected the same"
            )


def evaluate(
    rows: Sequence[Features],
    train_labels: npt.ArrayLike,
    test_labels: npt.ArrayLike,
    *,
    classes: Sequence[str] | None = None,
    rbf_samples: int | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Evaluation:
    """Compare representations of the same images with simple classifiers and k-means.

    Test images are used only for the final scores. C of the linear SVM is chosen on held-out
    training images. All other hyperparameters are fixed, see `nearfar.evaluation.scores`.

    Parameters
    ----------
    rows : sequence of Features
        Representations to compare. Include raw pixels and the plain autoencoder: scores mean little
        without these baselines.
    train_labels, test_labels : int[n] and int[m]
        Class numbers of the images.
    classes : sequence of str, optional
        Name of each class number, for notes and errors.
    rbf_samples : int, optional
        Number of training images for the RBF SVM, drawn at random and stratified by class. Time
        and memory of the RBF SVM grow quadratically with this number. Default: all.
    seed : int
        Seed of random draws and k-means, ≥ 0.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    Evaluation
        Table of scores, with one row per representation.

    Raises
    ------
    NearfarError
        If the numbers of labels and embeddings differ, a test class has no training images, or
        there are too few images.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> train, test = rng.random((30, 4), np.float32), rng.random((20, 4), np.float32)
    >>> table = evaluate([Features("pixels", train, test)], np.arange(30) % 2, np.arange(20) % 2)
    >>> sorted(table.columns)
    ['acc', 'ari', 'knn', 'linear_svm', 'nmi', 'probe_1', 'probe_10', 'probe_100', 'rbf_svm']
    """
    train, test = _labels(train_labels, "training"), _labels(test_labels, "test")
    _check(rows, train, test, classes, rbf_samples)
    _, sizes = np.unique(train, return_counts=True)
    rbf_size = len(train) if rbf_samples is None else min(rbf_samples, len(train))
    probes = [labels for labels in PROBE_LABELS if labels <= sizes.min()]

    measures: dict[tuple[str, ...], Callable[[LabeledEmbeddings], Score | tuple[Score, ...]]] = {
        ("linear_svm",): scores.linear_svm,
        ("rbf_svm",): partial(scores.rbf_svm, samples=rbf_size),
        ("knn",): scores.nearest_neighbors,
        **{(f"probe_{k}",): partial(scores.linear_probe, labels_per_class=k) for k in probes},
        ("acc", "nmi", "ari"): scores.clustering,
    }
    columns = {
        "linear_svm": "linear SVM",
        "rbf_svm": "RBF SVM",
        "knn": f"{scores.NEIGHBORS}-NN",
        **{f"probe_{k}": f"{k} label{'s' * (k > 1)}" for k in PROBE_LABELS},
        "acc": "ACC",
        "nmi": "NMI",
        "ari": "ARI",
    }
    table: dict[str, dict[str, Score | None]] = {row.name: dict.fromkeys(columns) for row in rows}
    steps = list(product(rows, measures.items()))
    unsettled: dict[str, list[str]] = defaultdict(list)
    for row, (keys, measure) in track(steps, "evaluating", len(steps)):
        settling = _collect_unsettled(unsettled[row.name], columns[keys[0]])
        # Classifiers compute many small matrix products, which multiple threads slow down.
        with threadpool_limits(1, "blas"), settling:
            values = measure(LabeledEmbeddings(row.train, train, row.test, test, seed))
        scored = (values,) if isinstance(values, Score) else values
        table[row.name].update(zip(keys, scored, strict=True))

    best = max(score.mean for each in table.values() if (score := each["linear_svm"]))
    notes = [
        *_notes(train, test, classes, rbf_size, best),
        *_leak(rows),
        *_warnings(rows, unsettled),
    ]
    return Evaluation(columns, table, _settings(train, test, rbf_size, seed), notes)


@contextmanager
def _collect_unsettled(found: list[str], score: str) -> Iterator[None]:
    """Context manager that adds `score` to `found` if a `ConvergenceWarning` is raised inside."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield
    for each in caught:
        if not issubclass(each.category, ConvergenceWarning):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if any(issubclass(each.category, ConvergenceWarning) for each in caught):
        found.append(score)


def _leak(rows: Sequence[Features]) -> Iterator[str]:
    """Yield a note if 1% of the test images or more are also training images.

    An image counts if its embedding equals a training embedding, in every representation.
    """
    shared = len(rows[0].test)
    for row in rows:
        known = {each.tobytes() for each in row.train}
        shared = min(shared, sum(each.tobytes() in known for each in row.test))
        if len(known) == 1:
            return
    if shared >= LEAK_FRACTION * len(rows[0].test):
        yield (
            f"{shared:,} of the {len(rows[0].test):,} test images are among the training images, "
            "or equal to one: the accuracies are too high."
        )


def _warnings(rows: Sequence[Features], unsettled: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a note for each representation with unreliable scores."""
    for row in rows:
        if (row.train == row.train[0]).all():
            yield f"{row.name}: all embeddings are the same."
        elif unsettled[row.name]:
            yield (
                f"{row.name}: {', '.join(unsettled[row.name])} did not converge, or found fewer "
                "distinct embeddings than classes."
            )


def _settings(train: Labels, test: Labels, rbf_size: int, seed: int) -> dict[str, Any]:
    """Return all settings needed to reproduce the scores."""
    classes = len(np.unique(train))
    return {
        "seed": seed,
        "train_images": len(train),
        "test_images": len(test),
        "classes": classes,
        **scores.settings(rbf_size),
        "clustering": {"clusters": classes, "starts": scores.KMEANS_STARTS},
    }


def _notes(
    train: Labels, test: Labels, names: Sequence[str] | None, rbf_size: int, best: float
) -> list[str]:
    """Return the notes below the table; `best` is the best linear SVM accuracy."""
    classes, sizes = np.unique(train, return_counts=True)
    share = min(round(best, 2), 0.99)
    error = 100 * (share * (1 - share) / len(test)) ** 0.5
    notes = [
        "Accuracy in %; ACC, NMI and ARI of k-means \N{MULTIPLICATION SIGN} 100. "
        f"{len(train):,} training and {len(test):,} test images of {len(classes)} classes: an "
        f"accuracy of {100 * share:.0f} has a standard error of {error:.1f}.",
        f"1, 10, 100 labels: logistic regression on that many labels per class, mean ± standard "
        f"deviation of {scores.PROBE_DRAWS} draws.",
    ]
    if rbf_size < len(train):
        notes.append(f"The RBF SVM was trained on {rbf_size:,} of the training images.")
    if (smallest := sizes.min()) < PROBE_LABELS[-1]:
        rarest = class_name(classes[sizes.argmin()], names)
        notes.append(
            f"{BLANK} Too few labels: class {rarest} has only {smallest} training "
            f"image{'s' if smallest > 1 else ''}."
        )
    return notes


def _labels(labels: npt.ArrayLike, part: str) -> Labels:
    """Return class numbers as int64[n]; raise an error if they are not a list of integers."""
    array = np.asarray(labels)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise NearfarError(
            f"{part} labels have type {array.dtype} and shape {array.shape}: "
            "expected one whole number per image"
        )
    return array.astype(np.int64)


def _check(
    rows: Sequence[Features],
    train: Labels,
    test: Labels,
    names: Sequence[str] | None,
    rbf_samples: int | None,
) -> None:
    """Raise an error if embeddings and labels do not match, or there are too few images."""
    titles = [row.name for row in rows]
    if not titles or len(set(titles)) < len(titles):
        raise NearfarError(f"rows named {titles}: expected at least one, with distinct names")
    for row in rows:
        for part, embeddings, labels in (("training", row.train, train), ("test", row.test, test)):
            if len(embeddings) != len(labels):
                raise NearfarError(
                    f"{len(labels)} {part} labels for {len(embeddings)} {part} embeddings of "
                    f"{row.name!r}: expected one label for each"
                )
    classes = np.unique(train)
    if len(classes) < 2:
        raise NearfarError(
            f"the training labels have {len(classes)} class: expected images of at least 2 classes"
        )
    if len(unseen := np.setdiff1d(test, classes)):
        listed = ", ".join(class_name(number, names) for number in unseen[:5])
        raise NearfarError(
            f"test labels contain classes without training images: {listed}; "
            "expected only classes that are in both sets"
        )
    if len(train) < scores.NEIGHBORS or len(test) < len(classes):
        raise NearfarError(
            f"{len(train)} training and {len(test)} test images of {len(classes)} classes: "
            f"expected at least {scores.NEIGHBORS} for training, and one test image per class"
        )
    if rbf_samples is not None and rbf_samples < len(classes):
        raise NearfarError(
            f"rbf_samples={rbf_samples}: expected at least one for each of {len(classes)} classes"
        )
