"""The official measures of PASCAL VOC [1]_.

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

Floats = npt.NDArray[np.floating]
Points = Literal["11", "all"]

#: From which intersection over union on a detection is one of the object.
OVERLAP = 0.5


def average_precision(
    scores: Floats, positive: npt.NDArray[np.bool_], total: int, points: Points
) -> float:
    """Return the area under the curve of precision over recall, made monotonous.

    Parameters
    ----------
    scores : float[n]
        The higher, the surer.
    positive : bool[n]
        Which of them are right.
    total : int
        How many there are to be found.
    points : {"11", "all"}
        The mean of the precision at recall 0, 0.1, …, 1, as until VOC 2009; or all of the area.

    Returns
    -------
    float
        0…1; NaN if there is nothing to be found.
    """
    if total == 0:
        return float("nan")
    right = positive[np.argsort(-scores, kind="stable")].cumsum()
    recall = right / total
    precision = right / np.arange(1, len(right) + 1)
    best_from = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if points == "all":
        return float((np.diff(recall, prepend=0.0) * best_from[:-1]).sum())
    # Tenths as whole numbers: 0.3 is not 3 of 10 in floating point.
    reached = np.searchsorted(10 * right, np.arange(11) * total)
    return float(best_from[reached].mean())


def classification_ap(
    scores: Floats, seen: npt.NDArray[np.int8], points: Points
) -> npt.NDArray[np.float64]:
    """Return the average precision of each class, float64[k].

    Parameters
    ----------
    scores : float[n, k]
        How surely a class is seen in an image.
    seen : int8[n, k]
        1 if it is, −1 if not, 0 if that is not to be judged.
    """
    return np.array(
        [
            average_precision(score[truth != 0], truth[truth != 0] == 1, (truth == 1).sum(), points)
            for score, truth in zip(scores.T, seen.T, strict=True)
        ]
    )


@dataclass(frozen=True)
class Detections:
    """What was found in an image, as `Objects` are given: m boxes, labels and scores."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def detection_ap(
    found: Sequence[Detections], truth: Sequence[Objects], classes: int, points: Points
) -> npt.NDArray[np.float64]:
    """Return the average precision of each class over images, float64[classes].

    The surest detections come first, and each is of the object of its class that it overlaps most,
    if by at least 0.5 intersection over union. The first one of an object is right, later ones are
    wrong; those of difficult objects do not count.
    """
    return np.array([_class_ap(found, truth, label, points) for label in range(classes)])


def _class_ap(
    found: Sequence[Detections], truth: Sequence[Objects], label: int, points: Points
) -> float:
    scores, verdicts, total = [np.zeros(0, np.float32)], [np.zeros(0, np.int8)], 0
    for detections, objects in zip(found, truth, strict=True):
        chosen, real = detections.labels == label, objects.labels == label
        order = np.argsort(-detections.scores[chosen], kind="stable")
        boxes = detections.boxes[chosen][order]
        scores.append(detections.scores[chosen][order])
        verdicts.append(_judge(boxes, objects.boxes[real], objects.difficult[real]))
        total += int((~objects.difficult[real]).sum())
    verdict = np.concatenate(verdicts)
    counted = verdict != 0
    return average_precision(np.concatenate(scores)[counted], verdict[counted] == 1, total, points)


def _judge(
    boxes: npt.NDArray[np.float32],
    objects: npt.NDArray[np.float32],
    difficult: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int8]:
    """Say of boxes, the surest first, if they are right (1), wrong (−1) or do not count (0)."""
    verdict = np.full(len(boxes), -1, np.int8)
    if len(objects) == 0:
        return verdict
    overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(objects)).numpy()
    taken = np.zeros(len(objects), bool)
    for row, overlap in enumerate(overlaps):
        best = overlap.argmax()
        if overlap[best] >= OVERLAP:
            if difficult[best]:
                verdict[row] = 0
            elif not taken[best]:
                verdict[row], taken[best] = 1, True
    return verdict


class Overlap:
    """Counts pixels by class and prediction over many images.

    Parameters
    ----------
    classes : int
        How many classes there are; other values in the truth are ignored.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.integer]) -> None:
        """Count the pixels of an image, both [h, w]."""
        classes = len(self.counts)
        judged = truth < classes
        pairs = truth[judged].astype(np.int64) * classes + predicted[judged]
        self.counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def iou(self) -> npt.NDArray[np.float64]:
        """Return intersection over union of each class, float64[classes]; NaN where unseen."""
        both = self.counts.diagonal()
        either = self.counts.sum(0) + self.counts.sum(1) - both
        return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)
