"""Fitting a detector to normal clips, with checkpoints for resuming."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from nearfar.anomaly.camera import views
from nearfar.anomaly.clips import Clip, Frame, Span
from nearfar.anomaly.config import DEFAULT_TRAINING, DetectorConfig
from nearfar.anomaly.detector import CALIBRATE_EVERY, Detector, check_same_rate
from nearfar.anomaly.kind import continuity
from nearfar.anomaly.patches import Grid
from nearfar.anomaly.registry import FitContext, LeaveOneOutMethod, find_method
from nearfar.anomaly.storage import (
    has_method,
    open_for_fitting,
    read_methods,
    write_detector,
    write_method,
)
from nearfar.config import TrainConfig
from nearfar.errors import NearfarError
from nearfar.files import try_output
from nearfar.progress import Track, silent


def fit_detector(
    clips: Sequence[Clip],
    folder: str | os.PathLike[str],
    config: DetectorConfig | None = None,
    training: TrainConfig = DEFAULT_TRAINING,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> Detector:
    """Fit a detector to normal clips, and write it to a folder.

    Every fourth clip, or every fourth photograph, is held out to set the scale and the threshold.
    With fewer than four clips, the last quarter of each clip is held out. Nothing is held out if
    all methods can score a photograph as if it had been left out, as "patch-memory" can.

    Parameters
    ----------
    clips : sequence of Clip
        Normal clips from one camera.
    folder : str or path
        Folder to write the detector to. If the clips or settings cause an error, the folder is
        removed.
    config : DetectorConfig, optional
        Settings. Default: `DetectorConfig.auto` for the clips.
    training : TrainConfig
        Training settings of the autoencoder for "reconstruction" and "embedding-distance". All
        methods use the seed of these settings. Default: 5 epochs as a plain autoencoder, and 5
        epochs with the relational objective and weights 0.6, 0.4, 0.
    resume : bool
        Whether to continue an interrupted fit, with the same settings and clips. The result is
        bit-identical to that of an uninterrupted fit.
    overwrite : bool
        Whether to replace an existing detector in `folder`.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Returns
    -------
    Detector

    Raises
    ------
    NearfarError
        If the clips cannot be used, the folder already contains files, or there is nothing to
        resume.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from nearfar.anomaly import ArrayClip, as_frames
    >>> normal = np.random.default_rng(0).integers(90, 100, (20, 32, 48)).astype(np.uint8)
    >>> settings = DetectorConfig(methods=("appearance",), patch=16, stride=8, smoothing=0)
    >>> with TemporaryDirectory() as folder:
    ...     detector = fit_detector([ArrayClip(normal)], Path(folder) / "run", settings)
    >>> abnormal = normal[:5].copy()
    >>> abnormal[:, 8:24, 8:24] = 255
    >>> [frame.score > detector.threshold for frame in detector.score(as_frames(abnormal))]
    [True, True, True, True, True]
    """
    folder = Path(folder)
    try_output(folder, overwrite=overwrite or resume, folder=True)
    config = config or DetectorConfig.auto(clips)
    if config.photographs:
        clips = [clip.as_photographs() for clip in clips]
    learned, held_out = split_clips(clips, config.photographs)
    left_out = config.photographs and all(
        issubclass(find_method(name), LeaveOneOutMethod) for name in config.methods
    )
    if left_out:
        learned = held_out = list(clips)
    size = _frame_size(learned[0])
    grid = Grid(config.scaled_size(size), config.patch, config.stride)
    rate = next((clip.rate for clip in clips if clip.rate), None)
    _check(clips, [*learned, *held_out], size, config, rate)
    if not config.photographs:
        learned = views(learned, grid.size, config.step)
    settings = {
        "config": asdict(config),
        "training": training.to_dict(),
        "clips": [[clip.name, clip.nominal_total, clip.rate, size] for clip in clips],
    }
    with open_for_fitting(folder, settings, resume=resume, overwrite=overwrite) as scratch:
        context = FitContext(config, grid, training, scratch, track)
        for name in config.methods:
            if not has_method(folder, name):
                write_method(folder, find_method(name).fit(learned, context))
        continuous = not config.independent_frames and continuity(clips).kind == "video"
        methods = read_methods(folder, config)
        detector = Detector(config, grid, methods, rate=rate, size=size, continuous=continuous)
        detector.calibrate(held_out, track, left_out=left_out)
        write_detector(folder, detector)
    return detector


def split_clips(clips: Sequence[Clip], interleaved: bool = False) -> tuple[list[Clip], list[Clip]]:
    """Split normal clips into clips for fitting methods and clips for calibration.

    Every fourth clip is held out for calibration. With fewer than four clips, the last quarter of
    each clip is held out.

    Parameters
    ----------
    clips : sequence of Clip
        Normal clips.
    interleaved : bool
        Whether to hold out every fourth frame of each clip instead. This is meant for unrelated
        images.

    Returns
    -------
    learned, held_out : list of Clip

    Raises
    ------
    NearfarError
        If there are no clips, or fewer than four frames or images.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.anomaly import ArrayClip
    >>> (learned,), (held_out,) = split_clips([ArrayClip(np.zeros((8, 32, 32), np.uint8))])
    >>> len(list(learned)), len(list(held_out))
    (6, 2)
    """
    if not clips:
        raise NearfarError("there are no clips: expected normal clips")
    kept = list(clips[CALIBRATE_EVERY - 1 :: CALIBRATE_EVERY])
    if interleaved:
        if not any(clip.nominal_total >= CALIBRATE_EVERY for clip in clips):
            most = max(clip.nominal_total for clip in clips)
            raise NearfarError(
                f"{clips[0].name!r} holds only {most} images: expected at least "
                f"{CALIBRATE_EVERY} in a folder, of which a quarter is for the threshold"
            )
        return [_Interleaved(c, held=False) for c in clips], [
            _Interleaved(c, held=True) for c in clips
        ]
    if kept:
        return [clip for clip in clips if clip not in kept], kept
    parts = [_split(clip) for clip in clips]
    return [first for first, _ in parts], [second for _, second in parts]


class _Interleaved(Clip):
    """Every fourth frame of a clip, or all other frames."""

    def __init__(self, clip: Clip, *, held: bool) -> None:
        super().__init__(clip.size)
        self.clip, self.held = clip, held
        self.name, self.rate = clip.name, clip.rate
        self.skipped, self.notes = clip.skipped, clip.notes
        share = clip.nominal_total // CALIBRATE_EVERY
        self.nominal_total = share if held else clip.nominal_total - share

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        last = CALIBRATE_EVERY - 1
        for place, frame in enumerate(self.clip):
            if (place % CALIBRATE_EVERY == last) == self.held:
                yield frame


def _split(clip: Clip) -> tuple[Clip, Clip]:
    # A video's length is known only after reading; damaged frames leave gaps in the numbering.
    numbers = range(clip.total) if clip.total is not None else [frame.number for frame in clip]
    total = len(numbers)
    if total < CALIBRATE_EVERY:
        raise NearfarError(
            f"{clip.name!r} has only {total} frames: expected at least {CALIBRATE_EVERY}, of which "
            "a quarter is for calibration"
        )
    border, end = numbers[-(total // CALIBRATE_EVERY)], numbers[-1] + 1
    return Span(clip, 0, border), Span(clip, border, end)


def _frame_size(clip: Clip) -> tuple[int, int]:
    frame = next(iter(clip), None)
    if frame is None:
        raise NearfarError(f"{clip.name!r} holds no readable frame")
    return frame.pixels.shape[0], frame.pixels.shape[1]


def _check(
    clips: Sequence[Clip],
    parts: Sequence[Clip],
    expected: tuple[int, int],
    config: DetectorConfig,
    rate: float | None,
) -> None:
    """Check that clips are from one camera, and that parts are long enough, before fitting."""
    for clip in clips:
        size = _frame_size(clip)
        if not config.photographs:
            Grid(expected, 1, 1).check(size, clip.name)
        if config.frames > 1:
            check_same_rate(clip, rate)
    for part in parts:
        if part.total is not None and part.total < config.span:
            raise NearfarError(
                f"a part of {part.name!r} has {part.total} frames, fewer than the {config.span} "
                "of a window: expected longer clips. Every fourth clip, or with fewer than four "
                "the last quarter of each, is for the threshold"
            )
