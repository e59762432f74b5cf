"""Scores of clips held against what is known to be abnormal in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearfar.anomaly.masks import Mask
from nearfar.anomaly.metrics import (
    Labels,
    PixelCurve,
    Scores,
    area_under_curve,
    equal_error_rate,
    macro,
    overlap_score,
)
from nearfar.errors import NearfarError


class Judge:
    """Collects scored frames with their masks; memory grows by a few numbers a frame.

    A frame is abnormal if its mask has any pixel.
    """

    def __init__(self) -> None:
        self._scores: dict[str, list[float]] = {}
        self._labels: dict[str, list[bool]] = {}
        self._overlaps: list[float] = []
        self._pixels = PixelCurve()

    def add(self, clip: str, score: float, heat: Scores, mask: Mask) -> None:
        """Add a frame: its score, its heat map, float[h, w], and what is abnormal, bool[h, w]."""
        self._pixels.add(heat, mask)
        self._scores.setdefault(clip, []).append(score)
        self._labels.setdefault(clip, []).append(bool(mask.any()))
        self._overlaps.append(overlap_score(heat, mask))

    @property
    def clips(self) -> dict[str, tuple[Labels, Scores]]:
        """Labels, bool[n], and scores, float[n], of each clip."""
        return {
            name: (np.array(self._labels[name]), np.array(scores))
            for name, scores in self._scores.items()
        }

    def result(self) -> dict[str, Any]:
        """All measures, as JSON holds them; None for what is undefined.

        Raises
        ------
        NearfarError
            If nothing was added.
        """
        if not self._scores:
            raise NearfarError("no frame was scored: there is nothing to judge")
        clips = self.clips
        labels = np.concatenate([labels for labels, _ in clips.values()])
        scores = np.concatenate([scores for _, scores in clips.values()])
        macro_auc = macro(area_under_curve, clips)
        return {
            "frames": len(labels),
            "abnormal": int(labels.sum()),
            "eer": equal_error_rate(labels, scores),
            "auc": area_under_curve(labels, scores),
            "macro_auc": macro_auc.mean,
            "macro_eer": macro(equal_error_rate, clips).mean,
            "macro_undefined": macro_auc.undefined,
            "pixel_auc": self._pixels.area(),
            "pixel_eer": self._pixels.equal_error_rate(),
            "overlap_auc": area_under_curve(labels, np.array(self._overlaps)),
            "overlap_eer": equal_error_rate(labels, np.array(self._overlaps)),
        }
