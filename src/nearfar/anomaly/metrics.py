"""How well scores tell abnormal frames and pixels from normal ones.

A frame, or a pixel, is called abnormal if its score is at least a threshold; all measures here go
through all thresholds. Where one kind is missing a measure is undefined, and None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.metrics import auc, roc_auc_score, roc_curve

from nearfar.errors import NearfarError

Scores = npt.NDArray[np.floating]
Labels = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint32]

#: Bits of a score, a float32, that pixels are sorted by: they tell apart what differs by 1/2048.
KEY_BITS = 20
#: The share of the abnormal pixels of a frame that must be found (Mahadevan et al., CVPR 2010).
OVERLAP = 0.4
#: How many false alarms per region overlap is averaged up to (Bergmann et al., CVPR 2019).
PRO_LIMIT = 0.3
PRO_STEPS = 200


def area_under_curve(labels: Labels, scores: Scores) -> float | None:
    """Area under the ROC curve of bool[n] and float[n], 0…1; None if only one kind is there."""
    labels, scores = _check(labels, scores)
    if labels.all() or not labels.any():
        return None
    return float(roc_auc_score(labels, scores))


def equal_error_rate(labels: Labels, scores: Scores) -> float | None:
    """Rate at which as many normal ones are called abnormal as abnormal ones are missed, 0…1.

    Where the ROC curve steps over that point, the rate is read off the straight line between its
    corners. Any increasing map of the scores leaves it as it is. None if only one kind is there.
    """
    labels, scores = _check(labels, scores)
    if labels.all() or not labels.any():
        return None
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    return _equal_error(false, true)


@dataclass(frozen=True)
class Macro:
    """A measure of each clip, and its mean over those where it is defined.

    Attributes
    ----------
    mean : float or None
        None if it is undefined everywhere.
    clips : mapping of str to (float or None)
        By the name of the clip.
    """

    mean: float | None
    clips: Mapping[str, float | None]

    @property
    def undefined(self) -> list[str]:
        """Clips that are normal, or abnormal, throughout."""
        return [name for name, value in self.clips.items() if value is None]


def macro(
    measure: Callable[[Labels, Scores], float | None],
    clips: Mapping[str, tuple[Labels, Scores]],
) -> Macro:
    """A measure, such as `area_under_curve`, of each clip: bool[n] and float[n] by its name."""
    values = {name: measure(*clip) for name, clip in clips.items()}
    known = [value for value in values.values() if value is not None]
    return Macro(float(np.mean(known)) if known else None, values)


class PixelCurve:
    """The ROC curve of single pixels, whose memory does not grow with their number.

    Scores are told apart if they differ by a share of 1/2048.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, 2**KEY_BITS), np.int64)

    def add(self, heat: Scores, mask: Labels) -> None:
        """Count the pixels of a frame, float[h, w] with bool[h, w]."""
        if heat.shape != mask.shape:
            raise NearfarError(
                f"a heat map of shape {heat.shape} with a mask of shape {mask.shape}: expected "
                "the same"
            )
        keys = _keys(heat)
        for kind, chosen in enumerate((~mask, mask)):
            values, counts = np.unique(keys[chosen], return_counts=True)
            self._counts[kind, values] += counts

    def area(self) -> float | None:
        """Area under the curve, 0…1."""
        rates = self._rates()
        return None if rates is None else float(auc(*rates))

    def equal_error_rate(self) -> float | None:
        """See `equal_error_rate`."""
        rates = self._rates()
        return None if rates is None else _equal_error(*rates)

    def _rates(self) -> tuple[Scores, Scores] | None:
        """False and true positive rates from the highest threshold to the lowest."""
        found = self._counts[:, self._counts.any(0)][:, ::-1].cumsum(1)
        if not self._counts.any(1).all():
            return None
        false, true = np.pad(found / found[:, -1:], ((0, 0), (1, 0)))
        return false, true


def overlap_score(heat: Scores, mask: Labels, share: float = OVERLAP) -> float:
    """Return the highest threshold at which a frame counts as detected by the pixel criterion.

    An abnormal frame counts if at least `share` of its abnormal pixels is found [1]_; a normal one
    is a false alarm if any pixel is.

    References
    ----------
    .. [1] V. Mahadevan et al., "Anomaly detection in crowded scenes", CVPR 2010.
    """
    if not mask.any():
        return float(heat.max())
    abnormal = heat[mask]
    needed = int(np.ceil(share * len(abnormal)))
    return float(np.partition(abnormal, -needed)[-needed])


class RegionCurve:
    """The share of connected abnormal regions that is found, over false alarms [1]_ (PRO).

    Memory grows with the number of regions, not with that of pixels. Scores are told apart as by
    `PixelCurve`.

    References
    ----------
    .. [1] P. Bergmann et al., "MVTec AD", CVPR 2019.
    """

    def __init__(self) -> None:
        self._normal = np.zeros(2**KEY_BITS, np.int64)
        #: Of each region: its scores, and which share of it is at most that.
        self._regions: list[tuple[Keys, Scores]] = []

    def add(self, heat: Scores, mask: Labels) -> None:
        """Count the pixels of a frame, float[h, w] with bool[h, w]."""
        keys = _keys(heat)
        values, counts = np.unique(keys[~mask], return_counts=True)
        self._normal[values] += counts
        named, count = ndimage.label(mask, structure=np.ones((3, 3)))
        for region in range(1, count + 1):
            values, counts = np.unique(keys[named == region], return_counts=True)
            self._regions.append((values, counts.cumsum() / counts.sum()))

    def area(self, limit: float = PRO_LIMIT) -> float | None:
        """Mean share of each region that is found, 0…1, over false positive rates up to `limit`."""
        total = int(self._normal.sum())
        if not self._regions or not total:
            return None
        rates = np.linspace(0, limit, PRO_STEPS)
        kept = np.floor(rates * total)
        # The lowest threshold that calls at most so many normal pixels abnormal lies just above.
        above = total - self._normal.cumsum()
        below = np.searchsorted(-above, -kept)
        missed = [
            np.concatenate([[0.0], shares])[np.searchsorted(values, below, side="right")]
            for values, shares in self._regions
        ]
        return float(auc(rates, 1 - np.mean(missed, axis=0)) / limit)


def _check(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Labels, Scores]:
    labels, scores = np.asarray(labels, bool), np.asarray(scores, float)
    if labels.shape != scores.shape or labels.ndim != 1 or not len(labels):
        raise NearfarError(
            f"labels of shape {labels.shape} with scores of shape {scores.shape}: expected as "
            "many of both, at least one"
        )
    if not np.isfinite(scores).all():
        raise NearfarError("some scores are NaN or infinite: expected finite numbers")
    return labels, scores


def _equal_error(false: Scores, true: Scores) -> float:
    """Where false positives equal misses, on the line between two corners of the curve."""
    gap = false + true - 1  # rises from −1 to 1
    after = int(np.argmax(gap >= 0))
    step = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(false[after - 1] + step * (false[after] - false[after - 1]))


def _keys(scores: Scores) -> Keys:
    """The upper bits of float32 numbers, in the order of the numbers."""
    bits = np.ascontiguousarray(scores, np.float32).view(np.uint32)
    negative = bits >> 31 == 1
    ordered = np.where(negative, ~bits, bits | np.uint32(0x80000000))
    return (ordered >> np.uint32(32 - KEY_BITS)).astype(np.uint32)
