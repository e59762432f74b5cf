"""Appearance method: reconstruction error of PCA, the optimal linear autoencoder [1]_.

References
----------
.. [1] P. Baldi, K. Hornik, "Neural networks and principal component analysis", Neural Networks
   2(1), 1989.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import Tensor

from nearfar import runs
from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.anomaly.methods.appearance.principal_components import (
    principal_components,
    still_noise,
)
from nearfar.anomaly.patches import Grid, ScoreMap, gather_patches, score_patches
from nearfar.anomaly.registry import FitContext, Method, register_method
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent

if TYPE_CHECKING:
    from nearfar.anomaly.config import DetectorConfig

_FILE = "components.safetensors"


@register_method
class Appearance(Method):
    """Squared PCA reconstruction error of the center of a patch in the latest frame.

    The number of components is the smallest for which the residual is only camera noise. The method
    requires a fixed camera, and also detects objects that stand still.

    Parameters
    ----------
    center : float32[p]
        Mean of the centers of normal patches, which have p pixels.
    left_out : float32[k, p]
        Axes of least variance, which the reconstruction leaves out.

    Examples
    --------
    >>> import numpy as np, torch
    >>> method = Appearance(torch.zeros(16), torch.eye(16)[:4])
    >>> method.side
    4
    >>> method.score(np.full((1, 8, 8), 255, np.uint8), Grid((8, 8), 8, 8))
    array([[0.25]], dtype=float32)
    """

    name = "appearance"
    #: Maximum side of the center of a patch, in pixels.
    max_side = 32

    def __init__(self, center: Tensor, left_out: Tensor) -> None:
        self.center, self.left_out = center, left_out
        self.side = isqrt(len(center))

    @classmethod
    def check(cls, config: DetectorConfig) -> None:
        """Check that frames show the same scene. See `Method.check`."""
        if config.independent_frames:
            raise NearfarError(
                f"methods={config.methods} with independent_frames: expected methods without "
                f"{cls.name!r}, which needs a fixed camera"
            )

    @classmethod
    def fit(cls, clips: Sequence[Clip], context: FitContext) -> Self:
        """Fit the method to normal clips. See `fit_appearance`."""
        seed, track = context.training.seed, context.track
        fitted = fit_appearance(clips, context.grid, seed, track=track)
        return cls(fitted.center, fitted.left_out)

    def score(self, window: Pixels, grid: Grid) -> ScoreMap:
        """Score the latest frame of a window. See `Scorer.score`."""
        border = (grid.patch - self.side) // 2
        middle = slice(border, border + self.side)

        def errors(patches: Tensor) -> Tensor:
            centered = patches[:, 0, middle, middle].flatten(1) - self.center
            return (centered @ self.left_out.T).square().sum(1) / len(self.center)

        return score_patches(errors, window[-1:], grid)

    def write(self, folder: Path) -> None:
        """Write the components. See `Method.write`."""
        tensors = {"center": self.center, "left_out": self.left_out}
        runs.write_tensors(folder / _FILE, runs.to_cpu(tensors))

    @classmethod
    def read(cls, folder: Path, config: DetectorConfig) -> Self:
        """Read the components. See `Method.read`."""
        tensors, _ = runs.read_tensors(folder / _FILE)
        with runs.explain_damage(folder, _FILE):
            method = cls(tensors["center"], tensors["left_out"])
            if method.left_out.shape[1:] != (method.side**2,) or method.side > config.patch:
                raise NearfarError(f"axes of shape {tuple(method.left_out.shape)}")
        return method


def fit_appearance(
    clips: Sequence[Clip], grid: Grid, seed: int = 0, *, track: Track = silent
) -> Appearance:
    """Fit the appearance method to the centers of normal patches.

    The clips are read twice, one frame at a time.

    Parameters
    ----------
    clips : sequence of Clip
        Normal clips from a fixed camera.
    grid : Grid
        Positions of the patches.
    seed : int
        Random seed for sampling patches, if there are too many to use all.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If the frame size differs from the grid's. Also see `still_noise`.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.anomaly import ArrayClip
    >>> frames = np.random.default_rng(0).integers(90, 95, (4, 32, 32)).astype(np.uint8)
    >>> fit_appearance([ArrayClip(frames)], Grid((32, 32), 16, 8)).side
    8
    """
    border = max(grid.patch // 4, (grid.patch - Appearance.max_side + 1) // 2)
    side = grid.patch - 2 * border
    noise = still_noise(
        _checked(clip, grid) for clip in track(clips, "measuring noise", len(clips))
    )
    patches = gather_patches(
        track(clips, "cutting patches", len(clips)),
        side,
        min(grid.stride, side),
        1,
        name="normal patches",
        seed=seed,
        border=border,
    )
    center, _, left_out = principal_components(patches, noise)
    return Appearance(center, left_out)


def _checked(clip: Clip, grid: Grid) -> Iterator[Frame]:
    for frame in clip:
        grid.check(frame.pixels.shape, clip.name)
        yield frame
