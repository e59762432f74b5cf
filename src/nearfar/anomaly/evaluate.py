"""Evaluation of scored clips by means of ground-truth masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearfar.anomaly.masks import Mask
from nearfar.anomaly.metrics import (
    Labels,
    PixelCurve,
    Scores,
    average_precision,
    equal_error_rate,
    f1_score,
    macro_average,
    min_max,
    overlap_score,
    roc_auc,
)
from nearfar.errors import NearfarError


class Evaluator:
    """Accumulator of scored frames and their masks, from which metrics are computed.

    Only a few numbers are stored per frame. A frame is abnormal if its mask has any abnormal pixel.

    Examples
    --------
    >>> evaluator, mask = Evaluator(), np.zeros((2, 2), bool)
    >>> evaluator.add("camera", 0.1, np.full((2, 2), 0.1, np.float32), mask)
    >>> evaluator.add("camera", 0.9, np.full((2, 2), 0.9, np.float32), ~mask)
    >>> evaluator.result()["auc"]
    1.0
    """

    def __init__(self) -> None:
        self._scores: dict[str, list[float]] = {}
        self._labels: dict[str, list[bool]] = {}
        self._overlaps: list[float] = []
        self._pixels = PixelCurve()

    def add(self, clip: str, score: float, heat: Scores, mask: Mask) -> None:
        """Add a frame.

        Parameters
        ----------
        clip : str
            Name of the frame's clip.
        score : float
            Score of the frame.
        heat : float[h, w]
            Scores of the frame's pixels.
        mask : bool[h, w]
            Abnormal pixels of the frame.
        """
        self._pixels.add(heat, mask)
        self.add_image(clip, score, abnormal=bool(mask.any()))
        self._overlaps.append(overlap_score(heat, mask))

    def add_image(self, clip: str, score: float, *, abnormal: bool) -> None:
        """Add a frame that has a label, but no mask. It is only used by `images`.

        Parameters
        ----------
        clip : str
            Name of the frame's clip.
        score : float
            Score of the frame.
        abnormal : bool
            Whether the frame is abnormal.
        """
        self._scores.setdefault(clip, []).append(score)
        self._labels.setdefault(clip, []).append(abnormal)

    def images(self, threshold: float) -> dict[str, Any]:
        """Return image-level metrics.

        Frames count as independent images, and the scores of pixels are ignored.

        Parameters
        ----------
        threshold : float
            Score above which an image counts as defective.

        Raises
        ------
        NearfarError
            If no frame has been added.
        """
        labels, scores = self._pooled()
        return {
            "images": len(labels),
            "defective": int(labels.sum()),
            "auc": roc_auc(labels, scores),
            "ap": average_precision(labels, scores),
            "f1": f1_score(labels, scores, threshold),
        }

    def _pooled(self) -> tuple[Labels, Scores]:
        if not self._scores:
            raise NearfarError("no frame was scored: there is nothing to evaluate")
        labels = np.concatenate([labels for labels, _ in self.clips.values()])
        return labels, np.concatenate([scores for _, scores in self.clips.values()])

    @property
    def clips(self) -> dict[str, tuple[Labels, Scores]]:
        """Labels (bool[n]) and scores (float[n]) by clip name."""
        return {
            name: (np.array(self._labels[name]), np.array(scores))
            for name, scores in self._scores.items()
        }

    def result(self) -> dict[str, Any]:
        """Return all metrics as a JSON-compatible dictionary. Undefined metrics are None.

        Raises
        ------
        NearfarError
            If no frame has been added.
        """
        (labels, scores), clips = self._pooled(), self.clips
        macro_auc = macro_average(roc_auc, clips)
        scaled = np.concatenate([min_max(scores) for _, scores in clips.values()])
        return {
            "frames": len(labels),
            "abnormal": int(labels.sum()),
            "eer": equal_error_rate(labels, scores),
            "auc": roc_auc(labels, scores),
            "macro_auc": macro_auc.mean,
            "minmax_auc": roc_auc(labels, scaled),
            "macro_eer": macro_average(equal_error_rate, clips).mean,
            "macro_undefined": macro_auc.undefined,
            "pixel_auc": self._pixels.auc(),
            "pixel_eer": self._pixels.equal_error_rate(),
            "overlap_auc": roc_auc(labels, np.array(self._overlaps)),
            "overlap_eer": equal_error_rate(labels, np.array(self._overlaps)),
        }
