"""Record of a run in ``config.json``: the images and all training settings."""

from __future__ import annotations

import json
import math
import os
import zlib
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from nearfar.config import TrainConfig
from nearfar.data import Images, Layout
from nearfar.errors import NearfarError
from nearfar.fields import check_fields
from nearfar.files import write_json
from nearfar.runs.layout import CONFIG, explain_damage

#: Version of the format, incremented whenever an older nearfar could not read the file.
FORMAT = 2
#: Number of images in the checksum of a data set.
CHECKED_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class RunData:
    """Record of the images on which a run was trained.

    Parameters
    ----------
    source : str
        Source of the images, such as a folder or the name of a data set, as given by the user.
    images, skipped : int
        Number of images, and number of files that could not be read.
    shape : tuple of int
        Channels, height and width of the images.
    checksum : str
        Checksum of a sample of the images.
    data_root, size, channels, strict, window, bands, frame_rate
        Options with which the images were opened, see `nearfar.data.open_images`.
    layout, image_shape, pixel_range
        Layout of the array that the user passed, see `nearfar.NRE`. `pixel_range` holds the pixel
        values of black and white.

    Raises
    ------
    NearfarError
        If a value has the wrong type, or a number is below 1.

    Examples
    --------
    >>> import torch
    >>> from nearfar.data import ArrayImages
    >>> data = RunData.of(ArrayImages(torch.rand(20, 1, 8, 8), name="noise"))
    >>> data.source, data.images, data.shape
    ('noise', 20, (1, 8, 8))
    """

    source: str
    images: int
    shape: tuple[int, int, int]
    checksum: str
    skipped: int = 0
    data_root: str | None = None
    size: int | None = None
    channels: int | None = None
    strict: bool = False
    window: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None
    frame_rate: float | None = None
    layout: Layout | None = None
    image_shape: tuple[int, ...] | None = None
    pixel_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if min(self.images, *self.shape) < 1:
            raise NearfarError(f"{self.images} images of shape {self.shape}: expected 1 or more")
        black, white = self.pixel_range
        if not -math.inf < black < white < math.inf:
            raise NearfarError(f"pixel_range={self.pixel_range}: expected black below white")

    @classmethod
    def of(cls, images: Images) -> RunData:
        """Return the record of a set of images."""
        some = np.linspace(0, len(images) - 1, CHECKED_IMAGES).astype(np.int64).tolist()
        total = 0
        for part in images.content(some):
            total = zlib.crc32(part, total)
        return cls(
            source=images.name,
            images=len(images),
            shape=images.shape,
            checksum=f"{total:08x}",
            skipped=len(images.skipped),
            **images.origin,
        )


@dataclass(frozen=True)
class RunConfig:
    """Images and settings of a run: the content of ``config.json``.

    Parameters
    ----------
    data : RunData
        Record of the images.
    train : TrainConfig
        Training settings, including defaults that depend on the images.

    Examples
    --------
    >>> import torch
    >>> from nearfar.data import ArrayImages
    >>> config = RunConfig(RunData.of(ArrayImages(torch.rand(20, 1, 8, 8))), TrainConfig())
    >>> config.train.objective.neighbors
    1
    """

    data: RunData
    train: TrainConfig

    def __post_init__(self) -> None:
        check_fields(self)


def write_config(folder: str | os.PathLike[str], config: RunConfig) -> None:
    """Write ``config.json`` to a run folder."""
    folder = Path(folder)
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "nearfar": version("nearfar"),
            "data": asdict(config.data),
            "train": config.train.to_dict(),
        },
    )


def read_config(folder: str | os.PathLike[str]) -> RunConfig:
    """Read the images and settings of a run from ``config.json``.

    Raises
    ------
    NearfarError
        If the folder is not a run folder, or the file is damaged or has a different format.

    Examples
    --------
    >>> read_config(Path("nowhere"))
    Traceback (most recent call last):
    nearfar.errors.NearfarError: run 'nowhere' does not exist: expected a folder from train
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NearfarError(f"run {str(folder)!r} does not exist: expected a folder from train")
    path = folder / CONFIG
    if not path.is_file():
        raise NearfarError(f"{str(folder)!r} is not a run: it has no {CONFIG}")
    with explain_damage(folder, CONFIG):
        saved = json.loads(path.read_text(encoding="utf-8-sig"))
        written = saved["format"]
        if type(written) is not int:
            raise NearfarError(f"format {written!r}: expected a whole number")
    if written != FORMAT:
        remedy = "install a newer one" if written > FORMAT else "train it again"
        raise NearfarError(
            f"run {str(folder)!r} has format {written}, written by nearfar "
            f"{saved.get('nearfar')}: this nearfar reads {FORMAT}, so {remedy}"
        )
    with explain_damage(folder, CONFIG):
        return RunConfig(RunData(**saved["data"]), TrainConfig.from_dict(saved["train"]))
