"""The official rules of VOC on worked examples, and against other libraries where they coincide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score, precision_recall_curve

from nearfar.transfer import (
    ConfusionMatrix,
    Detections,
    Objects,
    average_precision,
    classification_ap,
    detection_ap,
)

SIZE = (100, 100)


def objects(*boxes, labels=None, difficult=None) -> Objects:
    count = len(boxes)
    return Objects(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([0] * count if labels is None else labels, np.int64),
        np.array([False] * count if difficult is None else difficult, bool),
        SIZE,
    )


def found(*boxes, scores, labels=None) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([0] * len(boxes) if labels is None else labels, np.int64),
        np.array(scores, np.float32),
    )


def test_average_precision_of_worked_example():
    # Right, wrong, right, wrong, wrong of 4 to be found: precision 1 at recall 1/4, 2/3 at 2/4.
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    positive = np.array([True, False, True, False, False])
    assert average_precision(scores, positive, 4, "all") == pytest.approx((1 + 2 / 3) / 4)
    # Recall 0, 0.1, 0.2 have precision 1; 0.3, 0.4, 0.5 have 2/3; the other five have 0.
    assert average_precision(scores, positive, 4, "11") == pytest.approx((3 + 3 * 2 / 3) / 11)


def test_average_precision_reaches_tenths_of_recall_exactly():
    # 3 of 10 found reach recall 0.3, whatever floating point makes of 3/10.
    positive = np.array([True] * 3)
    assert average_precision(np.arange(3.0), positive, 10, "11") == pytest.approx(4 / 11)


def test_average_precision_without_objects_or_detections():
    none = np.zeros(0)
    assert np.isnan(average_precision(none, none.astype(bool), 0, "11"))
    assert average_precision(none, none.astype(bool), 3, "11") == 0
    assert average_precision(none, none.astype(bool), 3, "all") == 0


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any), st.randoms())
def test_average_precision_all_points_equals_sklearn_envelope(positive, random):
    scores = np.array(random.sample(range(1000), len(positive)), float)
    truth = np.array(positive)
    precision, recall, _ = precision_recall_curve(truth, scores)
    envelope = np.maximum.accumulate(precision)  # sklearn's recall falls
    area = (-np.diff(recall) * envelope[:-1]).sum()
    assert average_precision(scores, truth, truth.sum(), "all") == pytest.approx(area)


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any), st.randoms())
def test_average_precision_eleven_points_equals_devkit(positive, random):
    scores = np.array(random.sample(range(1000), len(positive)), float)
    truth = np.array(positive)[np.argsort(-scores)]
    recall = truth.cumsum() / truth.sum()
    precision = truth.cumsum() / np.arange(1, len(truth) + 1)
    points = [precision[recall >= t / 10 - 1e-9].max(initial=0) for t in range(11)]
    got = average_precision(scores, np.array(positive), truth.sum(), "11")
    assert got == pytest.approx(np.mean(points))


def test_classification_ap_ignores_difficult_images():
    scores = np.array([[0.9], [0.8], [0.7]])
    assert classification_ap(scores, np.array([[-1], [1], [1]], np.int8), "all") < 1
    assert classification_ap(scores, np.array([[0], [1], [1]], np.int8), "all") == 1


def test_detection_ap_counts_one_detection_per_object():
    truth = [objects((0, 0, 10, 10), (50, 50, 60, 60))]
    twice = found((0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 60, 60), scores=[0.9, 0.8, 0.7])
    # Right, wrong, right of two.
    assert detection_ap([twice], truth, 1, "all")[0] == pytest.approx((1 + 2 / 3) / 2)


def test_detection_ap_needs_half_iou():
    truth = [objects((0, 0, 10, 10))]
    assert detection_ap([found((0, 0, 10, 5), scores=[1])], truth, 1, "11")[0] == 1
    assert detection_ap([found((0, 0, 10, 4.9), scores=[1])], truth, 1, "11")[0] == 0


def test_detection_ap_matches_best_object_only():
    # The second overlaps the first object most, which is taken, so that it is wrong.
    truth = [objects((0, 0, 10, 10), (0, 4, 10, 14))]
    boxes = found((0, 0, 10, 10), (0, 1, 10, 11), scores=[0.9, 0.8])
    assert detection_ap([boxes], truth, 1, "all")[0] == pytest.approx(0.5)


def test_detection_ap_ignores_difficult_objects():
    truth = [objects((0, 0, 10, 10), (50, 50, 60, 60), difficult=[True, False])]
    boxes = found((0, 0, 10, 10), (0, 0, 10, 10), (50, 50, 60, 60), scores=[0.9, 0.8, 0.7])
    assert detection_ap([boxes], truth, 1, "all")[0] == 1


def test_detection_ap_ranks_over_images():
    truth = [objects((0, 0, 10, 10)), objects((0, 0, 10, 10))]
    boxes = [found((50, 50, 60, 60), scores=[0.9]), found((0, 0, 10, 10), scores=[0.8])]
    assert detection_ap(boxes, truth, 1, "all")[0] == pytest.approx(0.25)


def test_detection_ap_separates_classes():
    truth = [objects((0, 0, 10, 10), (50, 50, 60, 60), labels=[0, 1])]
    boxes = found((0, 0, 10, 10), (0, 0, 10, 10), scores=[0.9, 0.8], labels=[0, 1])
    assert np.array_equal(detection_ap([boxes], truth, 3, "11"), [1, 0, np.nan], equal_nan=True)


@given(st.integers(1, 5), st.randoms())
def test_iou_equals_sklearn_jaccard(classes, random):
    generator = np.random.default_rng(random.getrandbits(32))
    truth = generator.integers(0, classes, (6, 7)).astype(np.uint8)
    truth[generator.random((6, 7)) < 0.2] = 255
    predicted = generator.integers(0, classes, (6, 7))
    overlap = ConfusionMatrix(classes)
    for row in range(6):
        overlap.add(truth[row : row + 1], predicted[row : row + 1])
    judged = truth != 255
    either = np.isin(np.arange(classes), np.union1d(truth[judged], predicted[judged]))
    expected = jaccard_score(
        truth[judged], predicted[judged], labels=range(classes), average=None, zero_division=0
    )
    assert np.allclose(overlap.iou()[either], expected[either])
    assert np.isnan(overlap.iou()[~either]).all()


def test_iou_equals_torchmetrics_jaccard():
    torch = pytest.importorskip("torch")
    jaccard = pytest.importorskip("torchmetrics.functional").jaccard_index
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, (20, 30)).astype(np.uint8)
    truth[:3] = 255
    predicted = generator.integers(0, 4, (20, 30))
    overlap = ConfusionMatrix(4)
    overlap.add(truth, predicted)
    expected = jaccard(
        torch.from_numpy(predicted),
        torch.from_numpy(truth.astype(np.int64)),
        task="multiclass",
        num_classes=4,
        ignore_index=255,
        average=None,
    )
    assert np.allclose(overlap.iou(), expected)
