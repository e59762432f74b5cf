"""Image memory: distance in feature space to whole normal images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from nearfar.anomaly.clips import Clip, FolderClip, Pixels
from nearfar.anomaly.methods.memory.encoder import PatchEncoder
from nearfar.anomaly.methods.memory.feature_memory import FeatureMemory
from nearfar.anomaly.patches import Grid, ScoreMap
from nearfar.anomaly.registry import FitContext, LeaveOneOutMethod, register_method
from nearfar.anomaly.tiles import TILE
from nearfar.data import UnreadableError, to_unit

#: Stride of the feature map in pixels; at this stride, cells cover whole objects.
_STRIDE = 32
#: Number of images whose resemblance is measured, at most and at least.
_SAMPLE, _FEWEST = 64, 8


@register_method
class ImageMemory(FeatureMemory, LeaveOneOutMethod):
    """Deep nearest neighbors [1]_: distance in feature space to the nearest normal image.

    Each image is resized to 224×224 pixels. The feature map of stride 32 is averaged and scaled to
    length 1. The score is the Euclidean distance. The heat map shows the similarity of each place
    to the nearest normal image, subtracted from that of the most similar place. The maximum of the
    heat map is the score.

    Parameters
    ----------
    encoder : PatchEncoder
        Encoder with a feature map of stride 32.
    bank : float32[n, d]
        Features of at least two normal images, scaled to length 1.
    frames : int64[n], optional
        Image number of each row of `bank`. Default: a different image for each row.

    References
    ----------
    .. [1] L. Bergman, N. Cohen, Y. Hoshen, "Deep nearest neighbor anomaly detection", 2020.

    Examples
    --------
    >>> from nearfar.models import pretrained_encoder
    >>> network = pretrained_encoder("timm:resnet18", "random")
    >>> method = ImageMemory(PatchEncoder(network, "timm:resnet18"), torch.eye(2, 512))
    >>> method.score(np.zeros((1, 32, 48, 3), np.uint8), Grid((32, 48), 1, 1)).shape
    (32, 48)
    """

    name = "image-memory"
    min_patch = 1

    @classmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Store the features of normal images. See `Method.fit`."""
        encoder = PatchEncoder.open(context.config.encoder)
        images = (frame.pixels for clip in clips for frame in clip)
        total = sum(clip.nominal_total for clip in clips)
        features = (
            (number, embed(feature_map(encoder, _resize(image)))[None])
            for number, image in enumerate(context.track(images, "reading normal images", total))
        )
        return cls.choose(encoder, features, context)

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score the latest image of a window. See `Scorer.score`."""
        return grid.means(self._heat(window[-1]))

    def score_left_out(self, window: Pixels, grid: Grid, number: int) -> ScoreMap:
        """Score a normal image against all other normal images. See `LeaveOneOutMethod`."""
        return grid.means(self._heat(window[-1], left_out=number))

    def _heat(self, image: Pixels, *, left_out: int | None = None) -> ScoreMap:
        values = feature_map(self.encoder, _resize(image))
        distances, nearest = self.nearest(embed(values)[None], left_out=left_out)
        height, width = image.shape[:2]
        return heat_map(values, distances[0], nearest[0], (height, width)).numpy()


def resemblance(clips: Sequence[Clip], encoder: PatchEncoder) -> float | None:
    """Return how similar photographs are to each other, or None for fewer than eight photographs.

    Parameters
    ----------
    clips : sequence of Clip
        Clips of photographs. At most 64 photographs are compared.
    encoder : PatchEncoder
        Encoder with a feature map of stride 32.

    Returns
    -------
    float or None
        Median, over all images, of the cosine similarity of an image's features to those of the
        most similar other image. Features are as in `ImageMemory`.

    Examples
    --------
    >>> from nearfar.anomaly import ArrayClip
    >>> from nearfar.models import pretrained_encoder
    >>> encoder = PatchEncoder(pretrained_encoder("timm:resnet18", "random"), "timm:resnet18")
    >>> alike = ArrayClip([np.full((32, 48, 3), 90, np.uint8)] * 9)
    >>> round(resemblance([alike], encoder), 3)
    1.0
    """
    features = [embed(feature_map(encoder, _resize(image))) for image in _sample(clips)]
    if len(features) < _FEWEST:
        return None
    rows = torch.stack(features)
    similarities = (rows @ rows.T).fill_diagonal_(-torch.inf)
    return float(similarities.amax(1).median())


@torch.no_grad()
def feature_map(encoder: PatchEncoder, image: Tensor) -> Tensor:
    """Return the feature map (float32[d, 7, 7]) of an image (float32[3, 224, 224], in [0, 1])."""
    return encoder.maps(image[None], (_STRIDE,))[_STRIDE][0]


def embed(values: Tensor) -> Tensor:
    """Return the average of a feature map (float32[d, h, w]), scaled to length 1 (float32[d])."""
    return normalize(values.mean((1, 2)), dim=0)


def heat_map(values: Tensor, score: Tensor, nearest: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a heat map of an image. The maximum is the score.

    Parameters
    ----------
    values : float32[d, h, w]
        Feature map of an image.
    score : float32[]
        Score of the image.
    nearest : float32[d]
        Features of the nearest normal image.
    size : (height, width)
        Size of the heat map.

    Returns
    -------
    float32[height, width]
    """
    # The mean of these products is the cosine similarity of the images, up to a factor.
    similarity = torch.einsum("dhw,d->hw", values, nearest)
    cells = (similarity.max() - similarity)[None, None]
    heat = interpolate(cells, size=size, mode="bilinear", align_corners=False)[0, 0]
    highest = heat.amax((0, 1))
    # If all places are alike, the heat map is constant.
    return score * torch.where(highest > 0, heat / highest, torch.ones_like(heat))


def _resize(image: Pixels) -> Tensor:
    """Resize an image (uint8[h, w] or uint8[h, w, 3]) to float32[3, 224, 224], in [0, 1]."""
    color = Image.fromarray(image).convert("RGB")
    pixels = np.asarray(color.resize((TILE, TILE), Image.Resampling.BILINEAR))
    return to_unit(torch.from_numpy(pixels.copy()).permute(2, 0, 1))


def _sample(clips: Sequence[Clip]) -> Iterator[Pixels]:
    """Yield at most 64 readable photographs, evenly spaced over all clips."""
    total = sum(clip.nominal_total for clip in clips)
    wanted = np.unique(np.linspace(0, total - 1, min(_SAMPLE, total)).astype(int))
    start = 0
    for clip in (each.as_photographs() for each in clips):
        numbers = set((wanted - start).tolist()) & set(range(clip.nominal_total))
        if isinstance(clip, FolderClip):
            yield from _readable(clip, numbers)
        else:
            yield from (frame.pixels for frame in clip if frame.number in numbers)
        start += clip.nominal_total


def _readable(clip: FolderClip, numbers: set[int]) -> Iterator[Pixels]:
    for number in sorted(numbers):
        try:
            yield clip.read(number)
        except UnreadableError:  # reported when the clip is read
            continue
