"""Metrics of PASCAL VOC [1]_.

References
----------
.. [1] M. Everingham et al., "The PASCAL visual object classes (VOC) challenge", IJCV 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import box_iou

from nearfar.transfer.annotations import Objects

_Floats = npt.NDArray[np.floating]
#: Average precision as a mean over 11 recall levels (until VOC 2009), or as the whole area.
Points = Literal["11", "all"]

#: Minimum intersection over union of a detection with its object.
_MIN_IOU = 0.5


def average_precision(
    scores: _Floats, positive: npt.NDArray[np.bool_], total: int, points: Points
) -> float:
    """Return the average precision: the area under the monotone precision–recall curve.

    Parameters
    ----------
    scores : float[n]
        Confidence scores of n detections.
    positive : bool[n]
        Whether each detection is correct.
    total : int
        Number of objects in the ground truth.
    points : {"11", "all"}
        "11" for the mean precision at recall 0, 0.1, …, 1, as in VOC before 2010; "all" for the
        area.

    Returns
    -------
    float
        Average precision, in [0, 1]. NaN if there are no objects.

    Examples
    --------
    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2, "all")
    0.8333333333333333
    """
    if total == 0:
        return float("nan")
    correct = positive[np.argsort(-scores, kind="stable")].cumsum()
    recall = correct / total
    precision = correct / np.arange(1, len(correct) + 1)
    best_from = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if points == "all":
        return float((np.diff(recall, prepend=0.0) * best_from[:-1]).sum())
    # In integers, since 0.3 is not 3/10 in floating point.
    reached = np.searchsorted(10 * correct, np.arange(11) * total)
    return float(best_from[reached].mean())


def classification_ap(
    scores: _Floats, presence: npt.NDArray[np.int8], points: Points
) -> npt.NDArray[np.float64]:
    """Return the average precision of each class in image classification (float64[k]).

    Parameters
    ----------
    scores : float[n, k]
        Confidence scores for the presence of each class in each image.
    presence : int8[n, k]
        Presence of each class in each image: 1 if present, −1 if absent, 0 if ignored.
    points : {"11", "all"}
        See `average_precision`.

    Examples
    --------
    >>> scores, presence = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[1, -1], [-1, 1]])
    >>> classification_ap(scores, presence, "11")
    array([1., 1.])
    """
    return np.array(
        [
            average_precision(score[truth != 0], truth[truth != 0] == 1, (truth == 1).sum(), points)
            for score, truth in zip(scores.T, presence.T, strict=True)
        ]
    )


@dataclass(frozen=True)
class Detections:
    """Detections in an image.

    Parameters
    ----------
    boxes : float32[m, 4]
        Left, top, right and bottom edge of each detection, in pixels, as in `Objects`.
    labels : int64[m]
        Class number of each detection.
    scores : float32[m]
        Confidence score of each detection, in [0, 1].

    Examples
    --------
    >>> boxes = np.array([[10, 20, 30, 60]], np.float32)
    >>> Detections(boxes, np.array([2]), np.array([0.9], np.float32)).labels
    array([2])
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def detection_ap(
    detections: Sequence[Detections], truth: Sequence[Objects], num_classes: int, points: Points
) -> npt.NDArray[np.float64]:
    """Return the average precision of each class in object detection (float64[num_classes]).

    In descending order of confidence, each detection is matched to the object of the same class
    with the largest intersection over union, provided that this is at least 0.5. The first
    detection matched to an object is correct; all later ones, and detections without a match, are
    wrong. Detections that are matched to difficult objects are ignored.

    Parameters
    ----------
    detections : sequence of Detections
        Detections in each image.
    truth : sequence of Objects
        Annotated objects in each image.
    num_classes : int
        Number of classes.
    points : {"11", "all"}
        See `average_precision`.

    Examples
    --------
    >>> box = np.array([[10, 20, 30, 60]], np.float32)
    >>> truth = Objects(box, np.array([0]), np.array([False]), (100, 100))
    >>> detection_ap([Detections(box, np.array([0]), np.array([0.9]))], [truth], 1, "all")
    array([1.])
    """
    return np.array([_class_ap(detections, truth, label, points) for label in range(num_classes)])


def _class_ap(
    detections: Sequence[Detections], truth: Sequence[Objects], label: int, points: Points
) -> float:
    scores, verdicts, total = [np.zeros(0, np.float32)], [np.zeros(0, np.int8)], 0
    for found, objects in zip(detections, truth, strict=True):
        chosen, real = found.labels == label, objects.labels == label
        order = np.argsort(-found.scores[chosen], kind="stable")
        boxes = found.boxes[chosen][order]
        scores.append(found.scores[chosen][order])
        verdicts.append(_match(boxes, objects.boxes[real], objects.difficult[real]))
        total += int((~objects.difficult[real]).sum())
    verdict = np.concatenate(verdicts)
    counted = verdict != 0
    return average_precision(np.concatenate(scores)[counted], verdict[counted] == 1, total, points)


def _match(
    boxes: npt.NDArray[np.float32],
    objects: npt.NDArray[np.float32],
    difficult: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int8]:
    """Return for each detected box whether it is correct (1), wrong (−1) or ignored (0).

    The boxes must be in descending order of confidence.
    """
    verdict = np.full(len(boxes), -1, np.int8)
    if len(objects) == 0:
        return verdict
    overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(objects)).numpy()
    matched = np.zeros(len(objects), bool)
    for row, overlap in enumerate(overlaps):
        best = overlap.argmax()
        if overlap[best] >= _MIN_IOU:
            if difficult[best]:
                verdict[row] = 0
            elif not matched[best]:
                verdict[row], matched[best] = 1, True
    return verdict


class ConfusionMatrix:
    """Confusion matrix of pixels, by true and predicted class.

    Parameters
    ----------
    num_classes : int
        Number of classes. Pixels with any other true value, such as 255, are ignored.

    Examples
    --------
    >>> matrix = ConfusionMatrix(2)
    >>> matrix.add(np.array([[0, 1, 255]], np.uint8), np.array([[0, 1, 1]]))
    >>> matrix.iou()
    array([1., 1.])
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def add(self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.integer]) -> None:
        """Add the pixels of an image, given the true and the predicted label map (both [h, w])."""
        num_classes = len(self.counts)
        valid = truth < num_classes
        pairs = truth[valid].astype(np.int64) * num_classes + predicted[valid]
        self.counts += np.bincount(pairs, minlength=num_classes**2).reshape(
            num_classes, num_classes
        )

    def iou(self) -> npt.NDArray[np.float64]:
        """Return the intersection over union of each class (float64[k]).

        The value is NaN for classes that are neither in the ground truth nor predicted.
        """
        both = self.counts.diagonal()
        either = self.counts.sum(0) + self.counts.sum(1) - both
        return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)
