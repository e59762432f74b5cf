"""Detection metrics over all thresholds, for frames, pixels and regions.

A frame or pixel is detected if its score reaches the threshold. A metric is None if it is undefined
because all labels are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nearfar.errors import NearfarError

Scores = npt.NDArray[np.floating]
Labels = npt.NDArray[np.bool_]
_Keys = npt.NDArray[np.uint32]

#: Bits of a float32 score by which pixels are sorted; keys differ where scores differ by 1/2048.
_KEY_BITS = 20
#: Default fraction of abnormal pixels to detect in a frame (Mahadevan et al., CVPR 2010).
_MIN_OVERLAP = 0.4
#: Default false positive rate limit for PRO (Bergmann et al., CVPR 2019), and grid points.
_PRO_MAX_FPR, _PRO_POINTS = 0.3, 200


def roc_auc(labels: Labels, scores: Scores) -> float | None:
    """Return the area under the ROC curve (AUC).

    Parameters
    ----------
    labels : bool[n]
        Whether each frame is abnormal.
    scores : float[n]
        Score of each frame.

    Returns
    -------
    float or None
        In [0, 1]; None if all labels are equal.

    Raises
    ------
    NearfarError
        If shapes differ, or scores are not finite.

    Examples
    --------
    >>> roc_auc(np.array([False, True, True]), np.array([0.2, 0.1, 0.9]))
    0.5
    """
    from sklearn.metrics import roc_auc_score

    labels, scores = _check(labels, scores)
    if labels.all() or not labels.any():
        return None
    return float(roc_auc_score(labels, scores))


def average_precision(labels: Labels, scores: Scores) -> float | None:
    """Return the average precision (AP), the mean precision over the abnormal frames.

    Parameters
    ----------
    labels, scores
        See `roc_auc`.

    Returns
    -------
    float or None
        In [0, 1]; None if all labels are equal.

    Raises
    ------
    NearfarError
        See `roc_auc`.

    Examples
    --------
    >>> average_precision(np.array([False, True, True]), np.array([0.2, 0.1, 0.9]))
    0.8333333333333333
    """
    from sklearn.metrics import average_precision_score

    labels, scores = _check(labels, scores)
    if labels.all() or not labels.any():
        return None
    return float(average_precision_score(labels, scores))


def f1_score(labels: Labels, scores: Scores, threshold: float) -> float | None:
    """Return the harmonic mean of precision and recall (F1) above a threshold.

    Parameters
    ----------
    labels, scores
        See `roc_auc`.
    threshold : float
        Score above which a frame counts as abnormal.

    Returns
    -------
    float or None
        In [0, 1]; None if all frames are normal.

    Raises
    ------
    NearfarError
        See `roc_auc`.

    Examples
    --------
    >>> f1_score(np.array([False, True, True]), np.array([0.2, 0.1, 0.9]), threshold=0.5)
    0.6666666666666666
    """
    labels, scores = _check(labels, scores)
    found = scores > threshold
    if not labels.any():
        return None
    return float(2 * (found & labels).sum() / (found.sum() + labels.sum()))


def equal_error_rate(labels: Labels, scores: Scores) -> float | None:
    """Return the equal error rate (EER).

    It is the value of the false positive rate and the miss rate at the threshold where they are
    equal.

    The rate is interpolated linearly between corners of the ROC curve. A monotonically increasing
    transform of the scores does not change it.

    Parameters
    ----------
    labels : bool[n]
        Whether each frame is abnormal.
    scores : float[n]
        Score of each frame.

    Returns
    -------
    float or None
        In [0, 1]; None if all labels are equal.

    Raises
    ------
    NearfarError
        If shapes differ, or scores are not finite.

    Examples
    --------
    >>> equal_error_rate(np.array([0, 1, 0, 1], bool), np.array([1.0, 2.0, 3.0, 4.0]))
    0.5
    """
    from sklearn.metrics import roc_curve

    labels, scores = _check(labels, scores)
    if labels.all() or not labels.any():
        return None
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    return _equal_error(false, true)


@dataclass(frozen=True)
class MacroAverage:
    """Metric of each clip, and the mean over all clips for which it is defined.

    Attributes
    ----------
    mean : float or None
        Mean of the values. None if no clip has a value.
    clips : mapping of str to (float or None)
        Values by clip name.

    Examples
    --------
    >>> MacroAverage(0.9, {"a": 0.9, "b": None}).undefined
    ['b']
    """

    mean: float | None
    clips: Mapping[str, float | None]

    @property
    def undefined(self) -> list[str]:
        """Names of clips without a value, since their frames are all normal or all abnormal."""
        return [name for name, value in self.clips.items() if value is None]


def macro_average(
    metric: Callable[[Labels, Scores], float | None],
    clips: Mapping[str, tuple[Labels, Scores]],
) -> MacroAverage:
    """Return a metric for each clip, and its mean.

    Parameters
    ----------
    metric : callable
        Function that takes labels (bool[n]) and scores (float[n]) and returns a metric, such as
        `roc_auc`.
    clips : mapping
        Labels and scores by clip name.

    Returns
    -------
    MacroAverage

    Examples
    --------
    >>> labels, scores = np.array([False, True]), np.array([0.1, 0.9])
    >>> macro_average(roc_auc, {"a": (labels, scores), "b": (labels, -scores)}).mean
    0.5
    """
    values = {name: metric(*clip) for name, clip in clips.items()}
    known = [value for value in values.values() if value is not None]
    return MacroAverage(float(np.mean(known)) if known else None, values)


def min_max(scores: Scores) -> Scores:
    """Scale the scores of a clip to [0, 1], as some publications do before they pool clips.

    Examples
    --------
    >>> min_max(np.array([2.0, 3.0, 6.0]))
    array([0.  , 0.25, 1.  ])
    """
    return (scores - scores.min()) / (np.ptp(scores) or 1.0)


class PixelCurve:
    """ROC curve over pixels, computed in constant memory.

    Scores are quantized with a relative precision of 1/2048.

    Examples
    --------
    >>> curve = PixelCurve()
    >>> mask = np.array([[False, False], [True, True]])
    >>> curve.add(np.array([[0.1, 0.2], [0.3, 0.4]], np.float32), mask)
    >>> curve.auc(), curve.equal_error_rate()
    (1.0, 0.0)
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, 2**_KEY_BITS), np.int64)

    def add(self, heat: Scores, mask: Labels) -> None:
        """Add a frame.

        Parameters
        ----------
        heat : float[h, w]
            Scores of pixels.
        mask : bool[h, w]
            Abnormal pixels.

        Raises
        ------
        NearfarError
            If shapes differ.
        """
        if heat.shape != mask.shape:
            raise NearfarError(
                f"heat map of shape {heat.shape} with a mask of shape {mask.shape}: expected "
                "the same shape"
            )
        keys = _keys(heat)
        for kind, chosen in enumerate((~mask, mask)):
            values, counts = np.unique(keys[chosen], return_counts=True)
            self._counts[kind, values] += counts

    def auc(self) -> float | None:
        """Return the area under the curve, in [0, 1], or None if it is undefined."""
        from sklearn.metrics import auc

        rates = self._rates()
        return None if rates is None else float(auc(*rates))

    def equal_error_rate(self) -> float | None:
        """Return the equal error rate. See the function `equal_error_rate`."""
        rates = self._rates()
        return None if rates is None else _equal_error(*rates)

    def _rates(self) -> tuple[Scores, Scores] | None:
        """Return the false and true positive rates, from the highest threshold to the lowest."""
        found = self._counts[:, self._counts.any(0)][:, ::-1].cumsum(1)
        if not self._counts.any(1).all():
            return None
        false, true = np.pad(found / found[:, -1:], ((0, 0), (1, 0)))
        return false, true


def overlap_score(heat: Scores, mask: Labels, min_overlap: float = _MIN_OVERLAP) -> float:
    """Return the highest threshold at which a frame is detected by the pixel criterion [1]_.

    By this criterion, an abnormal frame is detected if at least the fraction `min_overlap` of its
    abnormal pixels is detected. A normal frame is a false alarm if any pixel is detected.

    Parameters
    ----------
    heat : float[h, w]
        Scores of pixels.
    mask : bool[h, w]
        Abnormal pixels.
    min_overlap : float
        Required fraction of abnormal pixels, in (0, 1].

    References
    ----------
    .. [1] V. Mahadevan et al., "Anomaly detection in crowded scenes", CVPR 2010.

    Examples
    --------
    >>> overlap_score(np.arange(10.0).reshape(2, 5), np.ones((2, 5), bool))
    6.0
    """
    if not mask.any():
        return float(heat.max())
    abnormal = heat[mask]
    needed = int(np.ceil(min_overlap * len(abnormal)))
    return float(np.partition(abnormal, -needed)[-needed])


class RegionCurve:
    """Curve of the per-region overlap (PRO) [1]_ versus the false positive rate.

    The per-region overlap is the detected fraction of each region's pixels, averaged over regions.

    Memory use only grows with the number of regions. Scores are quantized as in `PixelCurve`.

    References
    ----------
    .. [1] P. Bergmann et al., "MVTec AD", CVPR 2019.

    Examples
    --------
    >>> mask = np.zeros((8, 8), bool)
    >>> mask[2:4, 2:4] = True
    >>> curve = RegionCurve()
    >>> curve.add(mask.astype(np.float32), mask)
    >>> round(curve.auc(), 3)
    1.0
    """

    def __init__(self) -> None:
        self._normal = np.zeros(2**_KEY_BITS, np.int64)
        #: Per region: its sorted keys, and the cumulative fraction of its pixels at each.
        self._regions: list[tuple[_Keys, Scores]] = []

    def add(self, heat: Scores, mask: Labels) -> None:
        """Add a frame.

        Parameters
        ----------
        heat : float[h, w]
            Scores of pixels.
        mask : bool[h, w]
            Abnormal pixels.
        """
        keys = _keys(heat)
        values, counts = np.unique(keys[~mask], return_counts=True)
        self._normal[values] += counts
        named, count = ndimage.label(mask, structure=np.ones((3, 3)))
        for region in range(1, count + 1):
            values, counts = np.unique(keys[named == region], return_counts=True)
            self._regions.append((values, counts.cumsum() / counts.sum()))

    def auc(self, max_fpr: float = _PRO_MAX_FPR) -> float | None:
        """Return the mean per-region overlap at false positive rates up to `max_fpr`.

        The result is in [0, 1]. It is None if there is no abnormal region or no normal pixel.
        """
        from sklearn.metrics import auc

        total = int(self._normal.sum())
        if not self._regions or not total:
            return None
        rates = np.linspace(0, max_fpr, _PRO_POINTS)
        kept = np.floor(rates * total)
        # Just above each key: the lowest threshold that sufficiently few normal pixels exceed.
        above = total - self._normal.cumsum()
        below = np.searchsorted(-above, -kept)
        missed = [
            np.concatenate([[0.0], fractions])[np.searchsorted(values, below, side="right")]
            for values, fractions in self._regions
        ]
        return float(auc(rates, 1 - np.mean(missed, axis=0)) / max_fpr)


def _check(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Labels, Scores]:
    labels, scores = np.asarray(labels, bool), np.asarray(scores, float)
    if labels.shape != scores.shape or labels.ndim != 1 or not len(labels):
        raise NearfarError(
            f"labels of shape {labels.shape} with scores of shape {scores.shape}: expected as "
            "many labels as scores, at least one"
        )
    if not np.isfinite(scores).all():
        raise NearfarError("some scores are NaN or infinite: expected finite numbers")
    return labels, scores


def _equal_error(false: Scores, true: Scores) -> float:
    """Return the interpolated rate at which false positives and misses are equal."""
    gap = false + true - 1  # rises from −1 to 1
    after = int(np.argmax(gap >= 0))
    step = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(false[after - 1] + step * (false[after] - false[after - 1]))


def _keys(scores: Scores) -> _Keys:
    """Return integers in the same order as float32 numbers, from the upper bits of the numbers."""
    bits = np.ascontiguousarray(scores, np.float32).view(np.uint32)
    negative = bits >> 31 == 1
    ordered = np.where(negative, ~bits, bits | np.uint32(0x80000000))
    return (ordered >> np.uint32(32 - _KEY_BITS)).astype(np.uint32)
