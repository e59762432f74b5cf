"""What a run folder says of a training: on what, how, and with which network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nearfar.data.layouts import Layout
from nearfar.errors import NearfarError
from nearfar.fields import check_fields
from nearfar.models import Architecture


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The images that a run learned from.

    Parameters
    ----------
    source : str
        What the user called them.
    images, skipped : int
        How many there are, and how many files could not be read.
    shape : tuple of int
        Channels, height, width.
    checksum : str, optional
        Of some of the images; older runs have none.
    data_root, size, channels, strict
        How a command opened them, see `nearfar.data.open_images`.
    layout, image_shape
        How arrays were laid out, see `nearfar.NRE`.
    """

    source: str
    images: int
    shape: tuple[int, int, int]
    skipped: int = 0
    checksum: str | None = None
    data_root: str | None = None
    size: int | None = None
    channels: int | None = None
    strict: bool = False
    layout: Layout | None = None
    image_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if min(self.images, *self.shape) < 1:
            raise NearfarError(f"{self.images} images of shape {self.shape}: expected 1 or more")


@dataclass(frozen=True)
class RunConfig:
    """What ``config.json`` says.

    Parameters
    ----------
    data : RunData
        What was learned from.
    train : dict
        The fields of `TrainConfig`.
    architecture : Architecture or None
        None if the caller brought the network along.
    pixel_range : tuple of float
        The values of the caller's arrays that mean black and white.
    """

    data: RunData
    train: dict[str, Any]
    architecture: Architecture | None
    pixel_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.architecture is not None and self.architecture.shape != self.data.shape:
            raise NearfarError(
                f"images of shape {self.data.shape}, a network for {self.architecture.shape}"
            )
