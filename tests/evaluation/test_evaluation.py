"""Evaluation: parity with scikit-learn called directly, fairness, errors, tables."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from nearfar.errors import NearfarError
from nearfar.evaluation import (
    Evaluation,
    Features,
    LabeledEmbeddings,
    LinearSVM,
    Score,
    evaluate,
    scores,
)
from nearfar.evaluation.scores import stratified_rows
from nearfar.report import evaluation_markdown

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = (IMAGES / 16).astype(np.float32)
TRAIN, TEST = IMAGES[:1200], IMAGES[1200:]
TRAIN_LABELS, TEST_LABELS = LABELS[:1200], LABELS[1200:]
FITTED = ("linear_svm", "rbf_svm", "knn", "probe_1", "probe_10", "probe_100")


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    rng = np.random.default_rng(0)
    noise = [rng.random((len(x), 8), dtype=np.float32) for x in (TRAIN, TEST)]
    rows = [Features("pixels", TRAIN, TEST), Features("noise", *noise)]
    return evaluate(rows, TRAIN_LABELS, TEST_LABELS, seed=3)


def score(evaluation: Evaluation, column: str, row: str = "pixels") -> Score:
    found = evaluation.rows[row][column]
    assert found is not None
    return found


def test_linear_svm_is_that_of_scikit_learn(evaluation: Evaluation) -> None:
    rows = stratified_rows(TRAIN_LABELS, 1200, np.random.default_rng(3))
    np.testing.assert_array_equal(rows, np.arange(1200))
    rng = np.random.default_rng(3)
    stratified_rows(TRAIN_LABELS, 1200, rng)
    learned = stratified_rows(TRAIN_LABELS, 960, rng)
    folds = np.zeros(1200)
    folds[learned] = -1  # only ever learned from
    model = make_pipeline(StandardScaler(), LinearSVC(tol=1e-8, max_iter=100_000))
    theirs = GridSearchCV(model, {"linearsvc__C": [0.01, 0.1, 1]}, cv=PredefinedSplit(folds))
    theirs.fit(TRAIN, TRAIN_LABELS)
    assert score(evaluation, "linear_svm").mean == pytest.approx(
        theirs.score(TEST, TEST_LABELS), abs=1.01 / len(TEST)
    )


@pytest.mark.parametrize("labels", [TRAIN_LABELS, TRAIN_LABELS % 2, TRAIN_LABELS * 10 - 7])
@pytest.mark.parametrize(("c", "within"), [(0.01, 0.005), (1.0, 0.05)])
def test_linear_svm_finds_the_minimum_of_scikit_learn(
    labels: np.ndarray, c: float, within: float
) -> None:
    scaler = StandardScaler().fit(TRAIN)
    embeddings = scaler.transform(TRAIN)
    ours = LinearSVM(C=c).fit(embeddings, labels)
    theirs = LinearSVC(C=c, tol=1e-8, max_iter=100_000).fit(embeddings, labels)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    tests = scaler.transform(TEST)
    assert np.mean(ours.predict(tests) == theirs.predict(tests)) > 0.99

    weights = np.vstack([theirs.coef_.T, theirs.intercept_])
    if len(theirs.classes_) == 2:
        weights = np.hstack([-weights, weights])
    assert np.linalg.norm(ours.weights_ - weights) < within * np.linalg.norm(weights)
    assert objective(ours.weights_, embeddings, labels, c) == pytest.approx(
        objective(weights, embeddings, labels, c), rel=2e-3
    )


def objective(weights: np.ndarray, embeddings: np.ndarray, labels: np.ndarray, c: float) -> float:
    margins = np.hstack([embeddings, np.ones((len(embeddings), 1))]) @ weights
    signs = np.where(labels[:, None] == np.unique(labels), 1, -1)
    return np.square(weights).sum() / 2 + c * np.square(np.maximum(1 - signs * margins, 0)).sum()


def test_rbf_svm_is_that_of_scikit_learn(evaluation: Evaluation) -> None:
    # gamma="scale" is one over the total variance of centered data: the same kernel, unscaled.
    center = TRAIN.mean(0)
    theirs = SVC(C=10, gamma="scale").fit(TRAIN - center, TRAIN_LABELS)
    expected = theirs.score(TEST - center, TEST_LABELS)
    assert score(evaluation, "rbf_svm").mean == pytest.approx(expected, abs=1.01 / len(TEST))


def test_rbf_svm_of_wide_embeddings_is_that_of_scikit_learn() -> None:
    few = slice(0, 40)  # fewer than dimensions
    task = LabeledEmbeddings(TRAIN[few], TRAIN_LABELS[few], TEST, TEST_LABELS, seed=0)
    assert task.train.shape[1] > len(task.train)
    center = task.train.mean(0)
    theirs = SVC(C=10, gamma="scale").fit(task.train - center, task.train_labels)
    expected = theirs.score(TEST - center, TEST_LABELS)
    measured = scores.rbf_svm(task, samples=40)
    assert 0.4 < measured.mean == pytest.approx(expected, abs=1.01 / len(TEST))


def test_nearest_neighbors_are_those_of_scikit_learn(evaluation: Evaluation) -> None:
    theirs = KNeighborsClassifier(5, metric="cosine").fit(TRAIN, TRAIN_LABELS)
    assert score(evaluation, "knn").mean == theirs.score(TEST, TEST_LABELS)


def test_clustering_is_that_of_scikit_learn(evaluation: Evaluation) -> None:
    groups = KMeans(10, n_init=10, random_state=3).fit_predict(TEST)
    nmi = normalized_mutual_info_score(TEST_LABELS, groups)
    assert score(evaluation, "nmi").mean == pytest.approx(nmi)
    ari = adjusted_rand_score(TEST_LABELS, groups)
    assert score(evaluation, "ari").mean == pytest.approx(ari)


def test_clustering_accuracy_is_that_of_the_best_assignment() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    points = np.float32(10 * np.eye(3)[labels] + rng.normal(size=(60, 3)))
    mistaken = np.where(np.arange(60) < 6, (labels + 1) % 3, labels)
    accuracy, *_ = scores.clustering(LabeledEmbeddings(points, mistaken, points, mistaken, seed=0))
    assert accuracy.mean == pytest.approx(0.9)


def test_probe_is_logistic_regression_on_few_labels(evaluation: Evaluation) -> None:
    accuracies = []
    scale = 10 / np.sqrt(TRAIN.var(0).sum())
    for draw in range(10):
        rng = np.random.default_rng(100 + draw)
        rows = np.concatenate(
            [rng.permutation(np.flatnonzero(c == TRAIN_LABELS))[:10] for c in range(10)]
        )
        model = LogisticRegression(max_iter=1000).fit(TRAIN[rows] * scale, TRAIN_LABELS[rows])
        accuracies.append(model.score(TEST * scale, TEST_LABELS))
    found = score(evaluation, "probe_10")
    assert found.std == pytest.approx(np.std(accuracies, ddof=1), rel=0.8)
    assert found.mean == pytest.approx(np.mean(accuracies), abs=0.02)


def test_more_labels_help_and_draws_differ(evaluation: Evaluation) -> None:
    one, ten, hundred = (score(evaluation, f"probe_{k}") for k in (1, 10, 100))
    assert one.mean < ten.mean < hundred.mean
    assert (one.std or 0) > (hundred.std or 0) > 0


def test_noise_scores_as_chance(evaluation: Evaluation) -> None:
    for column in FITTED:
        assert score(evaluation, column, "noise").mean == pytest.approx(0.1, abs=0.05)
    assert score(evaluation, "nmi", "noise").mean < 0.1


def test_no_representation_is_favored_by_its_scale(evaluation: Evaluation) -> None:
    rows = [Features("large", TRAIN * 1000, TEST * 1000), Features("small", TRAIN / 9, TEST / 9)]
    scaled = evaluate(rows, TRAIN_LABELS, TEST_LABELS, seed=3)
    for name in ("large", "small"):
        for column, expected in evaluation.rows["pixels"].items():
            assert expected is not None
            found = score(scaled, column, name)
            assert found.mean == pytest.approx(expected.mean, abs=0.006), column


def test_test_images_choose_nothing(evaluation: Evaluation) -> None:
    halves = [slice(0, 300), slice(300, None)]
    parts = [
        evaluate([Features("pixels", TRAIN, TEST[half])], TRAIN_LABELS, TEST_LABELS[half], seed=3)
        for half in halves
    ]
    for column in FITTED:
        correct = sum(
            score(part, column).mean * len(TEST[half])
            for part, half in zip(parts, halves, strict=True)
        )
        assert correct / len(TEST) == pytest.approx(score(evaluation, column).mean)


def test_seed_decides() -> None:
    rows = [Features("a", TRAIN[:300], TEST), Features("b", TRAIN[:300], TEST)]
    first, again, other = (
        evaluate(rows, TRAIN_LABELS[:300], TEST_LABELS, seed=seed, rbf_samples=50)
        for seed in (0, 0, 1)
    )
    assert first.to_dict() == again.to_dict()
    assert first.rows["a"] == first.rows["b"]
    assert first.rows["a"] != other.rows["a"]


def test_rbf_samples_are_recorded_and_used() -> None:
    rows = [Features("pixels", TRAIN, TEST)]
    few = evaluate(rows, TRAIN_LABELS, TEST_LABELS, rbf_samples=30)
    assert few.settings["rbf_svm"]["train_images"] == 30
    assert any("30 of the training images" in note for note in few.notes)
    assert score(few, "rbf_svm").mean < 0.9


def test_too_few_labels_leave_a_blank_with_the_reason() -> None:
    rows = np.concatenate(
        [np.flatnonzero(TRAIN_LABELS != 4), np.flatnonzero(TRAIN_LABELS == 4)[:7]]
    )
    found = evaluate([Features("pixels", TRAIN[rows], TEST)], TRAIN_LABELS[rows], TEST_LABELS)
    assert score(found, "probe_1").mean > 0.3
    assert found.rows["pixels"]["probe_10"] is None
    assert found.rows["pixels"]["probe_100"] is None
    assert any("class 4 has only 7 training images" in note for note in found.notes)
    assert Evaluation.from_dict(found.to_dict()) == found
    assert "\N{EN DASH} |" in evaluation_markdown(found)


def test_dead_embeddings_score_as_chance() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluate([Features("dead", 0 * TRAIN, 0 * TEST)], TRAIN_LABELS, TEST_LABELS)
    for column in FITTED:
        assert 0 < score(found, column, "dead").mean < 0.2


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 60), st.integers(0, 9))
def test_stratified_rows_keep_proportions(labels: list[int], size: int, seed: int) -> None:
    array = np.array(labels)
    classes, sizes = np.unique(array, return_counts=True)
    size = min(max(size, len(classes)), len(array))
    rows = stratified_rows(array, size, np.random.default_rng(seed))
    assert len(set(rows.tolist())) == len(rows) == size
    for label, count in zip(classes, sizes, strict=True):
        drawn = np.count_nonzero(array[rows] == label)
        assert drawn >= 1
        assert abs(drawn - size * count / len(array)) <= len(classes)


def test_stratified_rows_of_unequal_classes() -> None:
    labels = np.repeat([0, 1, 2], [900, 99, 1])
    rows = stratified_rows(labels, 101, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [90, 10, 1]


PIXELS = Features("pixels", TRAIN, TEST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": TRAIN_LABELS[:-1]}, "1199 training labels for 1200 .*'pixels'"),
        ({"test_labels": TEST_LABELS[1:]}, "596 test labels for 597"),
        ({"train_labels": 0 * TRAIN_LABELS}, "at least 2 classes"),
        (
            {"test_labels": np.where(TEST_LABELS == 7, 12, TEST_LABELS)},
            "without training images: 12;",
        ),
        (
            {"train_labels": TRAIN_LABELS % 7, "classes": [f"digit {k}" for k in range(10)]},
            "without training images: 'digit 7', 'digit 8', 'digit 9';",
        ),
        ({"train_labels": TRAIN_LABELS / 2}, "float64"),
        ({"train_labels": TRAIN_LABELS[:, None]}, r"\(1200, 1\)"),
        ({"rows": []}, "at least one"),
        ({"rows": [PIXELS, PIXELS]}, "distinct names"),
        ({"rbf_samples": 9}, "rbf_samples=9.*10 classes"),
        ({"rows": [replace(PIXELS, test=TEST[:3])], "test_labels": [0, 1, 2]}, "3 test images"),
    ],
)
def test_evaluate_refuses_rows_and_labels_that_do_not_match(change: dict, message: str) -> None:
    given = {"rows": [PIXELS], "train_labels": TRAIN_LABELS, "test_labels": TEST_LABELS} | change
    with pytest.raises(NearfarError, match=message) as refused:
        evaluate(**given)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (TRAIN, TEST[:, :5], "64 dimensions in training and 5"),
        (TRAIN[0], TEST, r"train embeddings of 'x' have shape \(64,\)"),
        (TRAIN, np.full_like(TEST, np.nan), "test embeddings of 'x' hold NaN"),
        (TRAIN[:, :0], TEST[:, :0], r"shape \(1200, 0\)"),
    ],
)
def test_features_refuse_unusable_embeddings(
    train: np.ndarray, test: np.ndarray, message: str
) -> None:
    with pytest.raises(NearfarError, match=message):
        Features("x", train, test)


def test_evaluation_survives_json(evaluation: Evaluation) -> None:
    saved = json.loads(json.dumps({"run": "elsewhere", **evaluation.to_dict()}))
    read = Evaluation.from_dict(saved)
    assert read == evaluation
    settings = read.settings
    assert (settings["seed"], settings["train_images"], settings["test_images"]) == (3, 1200, 597)
    assert settings["linear_svm"]["C"] == [0.01, 0.1, 1]
    assert settings["rbf_svm"]["gamma"] == 0.01


@pytest.mark.parametrize(
    "damage",
    [
        lambda saved: [],
        lambda saved: {k: v for k, v in saved.items() if k != "rows"},
        lambda saved: saved | {"rows": {"pixels": {"knn": {"mean": 1}}}},
        lambda saved: saved | {"rows": {"pixels": dict.fromkeys(saved["columns"], 0.5)}},
        lambda saved: saved | {"columns": None},
    ],
)
def test_evaluation_refuses_other_json(evaluation: Evaluation, damage) -> None:
    with pytest.raises(NearfarError, match="not an evaluation"):
        Evaluation.from_dict(damage(evaluation.to_dict()))


TABLE = Evaluation(
    {"knn": "5-NN", "probe_1": "1 label"},
    {
        "a|b": {"knn": Score(0.98712), "probe_1": Score(0.5, 0.0123)},
        "[bold]": {"knn": Score(0.98741), "probe_1": None},
    },
    {},
    ["a note"],
)


def test_evaluation_markdown_marks_the_best() -> None:
    assert evaluation_markdown(TABLE).splitlines() == [
        "|  | 5-NN | 1 label |",
        "| --- | ---: | ---: |",
        r"| a\|b | **98.7** | **50.0 ± 1.2** |",
        "| [bold] | **98.7** | \N{EN DASH} |",
        "",
        "- a note",
    ]


def test_terminal_table_fits_in_80_columns(evaluation: Evaluation) -> None:
    first, second = evaluation.rows.values()
    full = replace(
        evaluation,
        rows={"pixels": first, "autoencoder": second, "NRE": first},
    )
    console = Console(file=StringIO(), width=80)
    console.print(full.to_rich())
    console.print(TABLE.to_rich())
    text = console.file.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert {"autoencoder", "ACC", "[bold]"} <= set(text.split())
    for cells in dict(full.formatted()).values():
        for cell in cells:
            assert cell.text.replace(" ", "") in text


def test_note_has_the_standard_error_of_the_accuracies_measured(evaluation: Evaluation) -> None:
    share = min(round(score(evaluation, "linear_svm").mean, 2), 0.99)
    error = 100 * (share * (1 - share) / len(TEST)) ** 0.5
    assert f"an accuracy of {100 * share:.0f} has a standard error of {error:.1f}" in str(
        evaluation.notes
    )


@pytest.mark.parametrize("shared", [0, 1, 100])
def test_test_images_that_were_trained_on_are_reported(shared):
    test = np.concatenate([TRAIN[:shared], TEST[: 200 - shared]])
    labels = np.concatenate([TRAIN_LABELS[:shared], TEST_LABELS[: 200 - shared]])
    row = Features("pixels", TRAIN[:300], test)
    notes = evaluate([row], TRAIN_LABELS[:300], labels).notes
    found = [note for note in notes if "among the training images" in note]
    assert bool(found) == (shared == 100)
    assert not found or found[0].startswith("100 of the 200 test images")
