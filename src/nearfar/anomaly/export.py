"""Export of a detector for photographs to an ONNX file."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from nearfar.anomaly.detector import Detector
from nearfar.anomaly.methods.memory import ImageMemory, PatchMemory
from nearfar.anomaly.methods.memory.feature_memory import FeatureMemory
from nearfar.anomaly.methods.memory.image_memory import embed, feature_map, heat_map
from nearfar.anomaly.tiles import CELL, SMOOTHING, TILE, Tiling
from nearfar.errors import NearfarError, require
from nearfar.files import atomic_path

#: Bits of the weights with which PIL scales images.
_PRECISION = 22


class ExportedDetector(nn.Module, ABC):
    """Detector for photographs of one size, which consists of operations that ONNX supports.

    Results are equal to those of `Detector.score`. Images are resized with the integer arithmetic
    of PIL.

    Parameters
    ----------
    detector : Detector
        Detector for photographs.
    method : FeatureMemory
        Method of the detector.
    scaled : (height, width)
        Size to which images are resized.
    """

    bank: Tensor
    norms: Tensor

    def __init__(self, detector: Detector, method: FeatureMemory, scaled: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.threshold, self.encoder = detector.size, detector.threshold, method.encoder
        self.register_buffer("bank", method.bank)
        self.register_buffer("norms", method.bank.square().sum(1))
        for axis, (before, after) in enumerate(zip(detector.size, scaled, strict=True)):
            self.register_buffer(f"scaling{axis}", torch.from_numpy(_scaling(before, after)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the score (float32[1]), heat map (float32[h, w]), and defect flag (bool[1]).

        Parameters
        ----------
        image : uint8[h, w, 3]
            RGB image.
        """
        heat = self.heat(self._resize(image.permute(2, 0, 1).double()))
        score = heat.amax((0, 1)).view(1)
        return score, heat, score > self.threshold

    @abstractmethod
    def heat(self, pixels: Tensor) -> Tensor:
        """Return the heat map (float32[h, w]) of a resized image (float64[3, h', w'], in 0…255)."""

    def nearest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """See `FeatureMemory.nearest`."""
        nearest = self.bank[(self.norms - 2 * features @ self.bank.T).argmin(1)]
        return (features - nearest).norm(dim=1), nearest

    def _resize(self, pixels: Tensor) -> Tensor:
        """Resize an image as PIL does: horizontally, then vertically, with rounding after each."""
        for weights in (self.get_buffer("scaling1"), self.get_buffer("scaling0")):
            products = pixels @ weights.T + 2 ** (_PRECISION - 1)
            pixels = torch.floor(products / 2**_PRECISION).clamp(0, 255).transpose(1, 2)
        return pixels


class ExportedImageMemory(ExportedDetector):
    """Exported detector with the method "image-memory"."""

    def __init__(self, detector: Detector, method: ImageMemory) -> None:
        super().__init__(detector, method, (TILE, TILE))

    def heat(self, pixels: Tensor) -> Tensor:
        """See `ExportedDetector.heat`."""
        values = feature_map(self.encoder, pixels.float() / 255)
        distances, nearest = self.nearest(embed(values)[None])
        return heat_map(values, distances[0], nearest[0], self.size)


class ExportedPatchMemory(ExportedDetector):
    """Exported detector with the method "patch-memory". Gaussian smoothing is a matrix product."""

    def __init__(self, detector: Detector, method: PatchMemory) -> None:
        tiling = Tiling(detector.size, method.downscale)
        super().__init__(detector, method, tiling.scaled)
        self.tiling = tiling
        for axis, after in enumerate(tiling.scaled):
            smoothing = gaussian_filter1d(np.eye(after), SMOOTHING, axis=0)
            self.register_buffer(f"smoothing{axis}", torch.from_numpy(smoothing).float())

    def heat(self, pixels: Tensor) -> Tensor:
        """See `ExportedDetector.heat`."""
        tiles = torch.stack(
            [
                pixels[:, top : top + TILE, left : left + TILE]
                for top, left in self._places(self.tiling.tops, self.tiling.lefts)
            ]
        )
        distances, _ = self.nearest(self.encoder(tiles.float() / 255).flatten(0, 2))
        return self._stitch(distances.view(len(tiles), TILE // CELL, TILE // CELL))

    def _stitch(self, scores: Tensor) -> Tensor:
        """See `Tiling.stitch`."""
        height, width = (side // CELL for side in self.tiling.scaled)
        side = TILE // CELL
        ramp = torch.minimum(torch.arange(side), torch.arange(side).flip(0)) + 0.5
        weight = torch.minimum(ramp[:, None], ramp)
        total, weights = torch.zeros(height, width), torch.zeros(height, width)
        places = self._places(self.tiling.tops // CELL, self.tiling.lefts // CELL)
        for tile, (top, left) in zip(scores, places, strict=True):
            around = left, width - side - left, top, height - side - top
            total = total + pad(weight * tile, around)
            weights = weights + pad(weight, around)
        cells = (total / weights)[None, None]
        scaled = interpolate(cells, size=self.tiling.scaled, mode="bilinear", align_corners=False)
        rows, columns = self.get_buffer("smoothing0"), self.get_buffer("smoothing1")
        smooth = rows @ scaled @ columns.T
        own = interpolate(smooth, size=self.tiling.size, mode="bilinear", align_corners=False)
        return own[0, 0]

    @staticmethod
    def _places(
        tops: npt.NDArray[np.int64], lefts: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, int]]:
        return ((int(top), int(left)) for top in tops for left in lefts)


def export_detector(detector: Detector, path: str | os.PathLike[str]) -> None:
    """Export a detector for photographs to an ONNX file, for programs without nearfar.

    The input ``image`` is an RGB image (uint8[h, w, 3]) of the same size as the normal images. The
    outputs are ``score`` (float32[1]); ``heat`` (float32[h, w]); and ``defective`` (bool[1]), which
    is true if the score is above the threshold.

    Parameters
    ----------
    detector : Detector
        Detector whose only method is "patch-memory" or "image-memory".
    path : str or path
        File to write.

    Raises
    ------
    NearfarError
        If the detector has other methods, or the ``onnx`` extra is not installed.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from nearfar.anomaly import DetectorConfig, Grid
    >>> from nearfar.anomaly.methods.memory import PatchEncoder
    >>> from nearfar.models import pretrained_encoder
    >>> encoder = PatchEncoder(pretrained_encoder("timm:resnet18", "random"), "timm:resnet18")
    >>> method = PatchMemory(encoder, torch.rand(9, 384))
    >>> config = DetectorConfig.stills(methods=("patch-memory",))
    >>> detector = Detector(config, Grid((64, 96), 1, 1), [method], threshold=1.0)
    >>> with TemporaryDirectory() as folder:
    ...     export_detector(detector, f"{folder}/detector.onnx")
    ...     [path.name for path in Path(folder).iterdir()]
    ['detector.onnx']
    """
    for module in ("onnx", "onnxscript"):
        require(module, extra="onnx")
    network = _exported(detector).eval()
    image = torch.zeros(*detector.size, 3, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.onnx.export(
            torch.export.export(network, (image,), strict=False),
            input_names=["image"],
            output_names=["score", "heat", "defective"],
            external_data=False,
            verbose=False,
        )
    assert program is not None  # noqa: S101 - for the type alone
    with atomic_path(Path(path)) as temporary:
        program.save(temporary, external_data=False)


def _exported(detector: Detector) -> ExportedDetector:
    method, *others = detector.methods
    if not others and isinstance(method, PatchMemory):
        return ExportedPatchMemory(detector, method)
    if not others and isinstance(method, ImageMemory):
        return ExportedImageMemory(detector, method)
    raise NearfarError(
        f"methods={detector.config.methods}: expected a detector for photographs with "
        "'patch-memory' or 'image-memory' alone"
    )


def _scaling(before: int, after: int) -> npt.NDArray[np.float64]:
    """Return the matrix (float64[after, before]) of PIL's resampling along one side.

    Weights are integers, rounded as in PIL, so that products with pixel values are exact.
    """
    factor = before / after
    support = max(factor, 1.0)
    matrix = np.zeros((after, before))
    for row in range(after):
        center = (row + 0.5) * factor
        first, last = max(0, int(center - support + 0.5)), min(before, int(center + support + 0.5))
        weights = 1 - np.abs((np.arange(first, last) + 0.5 - center) / support)
        weights = weights.clip(0)
        matrix[row, first:last] = np.floor(weights / weights.sum() * 2**_PRECISION + 0.5)
    return matrix if before != after else np.eye(before) * 2**_PRECISION
