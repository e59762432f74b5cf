"""How to tell what is not normal: every choice of a detector, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from nearfar.errors import NearfarError
from nearfar.fields import check_fields

Part = Literal["reconstruction", "embeddings", "tempo", "appearance"]


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """How to tell what is not normal.

    Parameters
    ----------
    parts : tuple of {"reconstruction", "embeddings", "tempo", "appearance"}
        What scores a patch: its reconstruction error, as in the paper; the distance of its
        embedding to the nearest normal one; how much it looks like what is too fast, too large or
        glides, see `TempoNet`; what principal components of normal patches leave out of it, see
        `Appearance`. Scores of several are added, each relative to what it reaches in normal
        frames.
    patch : int
        Side of a patch, in pixels, at least 8.
    stride : int
        From one patch to the next, in pixels; overlapping if less than `patch`.
    frames : int
        Consecutive frames that are looked at together, at least 2 for tempo.
    by_place : bool
        Whether scores are relative to what is usual in the same row of the image.
    smoothing : float
        Standard deviation in frames of the average over time; 0 for none.
    false_alarms : float
        The share of normal frames above the threshold, on clips that were not learned from.
    bank_size : int
        The most normal embeddings that are kept.
    photographs : bool
        Whether each frame is something of its own, and not a moment of a scene: nothing is joined
        to spans, and heat maps are pictures.
    size : (height, width), optional
        What frames were scaled to when they were opened, see `open_clips`; those to be scored are
        to be opened likewise.
    """

    parts: tuple[Part, ...] = ("tempo", "appearance")
    patch: int = 48
    stride: int = 12
    frames: int = 5
    by_place: bool = False
    smoothing: float = 4.0
    false_alarms: float = 0.01
    bank_size: int = 8192
    photographs: bool = False
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise NearfarError(f"parts={self.parts}: expected at least one, and each once")
        for name, least in {"patch": 8, "stride": 1, "frames": 1, "bank_size": 1}.items():
            if getattr(self, name) < least:
                raise NearfarError(f"{name}={getattr(self, name)}: expected at least {least}")
        if self.stride > self.patch:
            raise NearfarError(f"stride={self.stride}: expected at most patch={self.patch}")
        if "tempo" in self.parts and self.frames < 2:
            raise NearfarError(f"frames={self.frames}: expected at least 2 to see motion")
        if self.photographs and (self.frames > 1 or self.smoothing):
            raise NearfarError(
                f"frames={self.frames}, smoothing={self.smoothing} with photographs: expected 1 "
                "and 0, as they have nothing to do with each other"
            )
        if self.photographs and "appearance" in self.parts:
            raise NearfarError(
                f"parts={self.parts} with photographs: expected no appearance, which is that of "
                "one scene"
            )
        if not 0 < self.false_alarms < 1:
            raise NearfarError(f"false_alarms={self.false_alarms}: expected a share, 0…1")
        if not 0 <= self.smoothing <= 1000:
            raise NearfarError(f"smoothing={self.smoothing}: expected 0…1000 frames")

    @property
    def encodes(self) -> bool:
        """Whether an autoencoder is trained."""
        return bool({"reconstruction", "embeddings"} & set(self.parts))

    @property
    def scaled(self) -> bool:
        """Whether scores are relative to what is usual."""
        return self.by_place or len(self.parts) > 1

    @classmethod
    def stills(cls, **choices: Any) -> DetectorConfig:
        """Make a setting for photographs, each on its own: distance of overlapping patches."""
        stills: dict[str, Any] = {
            "parts": ("embeddings",),
            "patch": 32,
            "stride": 8,
            "frames": 1,
            "smoothing": 0.0,
            "photographs": True,
        }
        return cls(**(stills | choices))

    @classmethod
    def paper(cls, **choices: Any) -> DetectorConfig:
        """Make the paper's setting: 30×30 patches of single frames, reconstruction error (§4.5)."""
        paper: dict[str, Any] = {
            "parts": ("reconstruction",),
            "patch": 30,
            "stride": 30,
            "frames": 1,
            "by_place": False,
            "smoothing": 0.0,
        }
        return cls(**(paper | choices))
