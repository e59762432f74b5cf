"""Object memory: distance in feature space to normal moving patches [1]_.

Features come from a pretrained encoder, so that little normal video is needed. Objects must be
about as large as in the encoder's training data. The motion method is better for small objects.

References
----------
.. [1] T. Reiss, Y. Hoshen, "Attribute-based representations for accurate and interpretable video
   anomaly detection", 2022: nearest-neighbor distances of the deep features of moving objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from nearfar.anomaly.clips import Clip, Pixels
from nearfar.anomaly.methods.memory.encoder import PatchEncoder
from nearfar.anomaly.methods.memory.feature_memory import FeatureMemory
from nearfar.anomaly.methods.motion import find_moving
from nearfar.anomaly.patches import Grid, Indices, ScoreMap, windows
from nearfar.anomaly.registry import FitContext, register_method
from nearfar.data import to_unit
from nearfar.errors import NearfarError

#: Stride of the feature map in pixels; at this stride, cells cover whole objects.
_STRIDE = 32
#: Number of windows, spread over the clips, from which patches are taken; at most twice as many.
_WINDOWS = 2000
#: Points per side at which a patch's features are sampled and averaged.
_POINTS = 4


@register_method
class ObjectMemory(FeatureMemory):
    """Distance in feature space from a moving patch to the nearest normal moving patch.

    The distance is Euclidean. Patches without motion have score 0. The bank is a coreset of
    `DetectorConfig.bank_size` features, selected from normal moving patches and their mirror
    images.

    Parameters
    ----------
    encoder : PatchEncoder
        Encoder with feature maps.
    bank : float32[n, d]
        Features of at least one normal moving patch.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from nearfar.models import pretrained_encoder
    >>> network = pretrained_encoder("timm:resnet18", "random")
    >>> method = ObjectMemory(PatchEncoder(network, "timm:resnet18"), torch.zeros(2, 512))
    >>> method.score(np.zeros((2, 64, 96), np.uint8), Grid((64, 96), 64, 32))
    array([[0., 0.]], dtype=float32)
    """

    name = "object-memory"
    min_frames = 2

    @classmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Store the features of moving patches of normal clips. See `Method.fit`."""
        config = context.config
        encoder = PatchEncoder.open(config.encoder)
        total = sum(clip.nominal_total for clip in clips)
        step = max(1, total // _WINDOWS)
        every = (window for clip in clips for _, window in windows(clip, config.frames, clip.name))
        features = (
            (number, encode_patches(encoder, seen[-1], moving, context.grid))
            for number, window in enumerate(
                islice(context.track(every, "reading normal clips", total), 0, None, step)
            )
            for seen in (window, window[:, :, ::-1])
            if len(moving := find_moving(seen, context.grid))
        )
        first = next(features, None)
        if first is None:
            raise NearfarError("nothing moves in the normal clips: expected normal motion")
        return cls.choose(encoder, chain([first], features), context)

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score a window of frames. See `Scorer.score`."""
        scores = torch.zeros(grid.shape).flatten()
        moving = find_moving(window, grid)
        if len(moving):
            features = encode_patches(self.encoder, window[-1], moving, grid)
            scores[moving] = self.distances(features)
        return scores.view(grid.shape).numpy()


@torch.no_grad()
def encode_patches(encoder: PatchEncoder, frame: Pixels, patches: Indices, grid: Grid) -> Tensor:
    """Return the encoder's feature map of stride 32, averaged over each patch.

    Parameters
    ----------
    encoder : PatchEncoder
        Encoder with a feature map of stride 32.
    frame : uint8[h, w]
        Frame of the grid's size.
    patches : int64[n]
        Patch indices, counted row by row.
    grid : Grid
        Positions of the patches.

    Returns
    -------
    float32[n, d]

    Examples
    --------
    >>> from nearfar.models import pretrained_encoder
    >>> encoder = PatchEncoder(pretrained_encoder("timm:resnet18", "random"), "timm:resnet18")
    >>> frame, grid = np.zeros((64, 96), np.uint8), Grid((64, 96), 64, 32)
    >>> encode_patches(encoder, frame, np.array([0, 1]), grid).shape
    torch.Size([2, 512])
    """
    image = to_unit(torch.from_numpy(np.ascontiguousarray(frame)))[None, None]
    rows, columns = np.divmod(patches, len(grid.lefts))
    corners = np.stack([grid.lefts[columns], grid.tops[rows]], axis=1)
    boxes = torch.from_numpy(np.concatenate([corners, corners + grid.patch], axis=1)).float()
    values = encoder.maps(image.expand(-1, 3, -1, -1), (_STRIDE,))[_STRIDE]
    means: Tensor = roi_align(values, [boxes], 1, spatial_scale=1 / _STRIDE, sampling_ratio=_POINTS)
    return means.flatten(1)
