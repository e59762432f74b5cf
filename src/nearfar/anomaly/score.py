"""Scoring of clips, with output to a folder."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nearfar.anomaly.clips import Clip
from nearfar.anomaly.detector import Detector
from nearfar.anomaly.evaluate import Evaluator
from nearfar.anomaly.kind import continuity
from nearfar.anomaly.masks import Mask, MaskError, Masks, find_masks
from nearfar.anomaly.metrics import RegionCurve
from nearfar.anomaly.output import (
    WORST_DISTANCE,
    Alerts,
    FrameResult,
    ScoreWriter,
    VideoWriter,
    WorstFrames,
    open_video,
    overlay,
    score_with_pixels,
    write_picture,
)
from nearfar.anomaly.overview import Overview, OverviewCollector
from nearfar.anomaly.patches import ScoreMap
from nearfar.anomaly.storage import open_output
from nearfar.errors import NearfarError, require
from nearfar.files import fitting_name, is_unfinished_output, try_output, write_json
from nearfar.progress import Track, silent

Format = Literal["csv", "parquet"]

_WORST, _HEAT, _ALERTS, _QUALITY = "worst", "heat", "alerts.json", "quality.json"
_SCORES: dict[Format, str] = {"csv": "scores.csv", "parquet": "scores.parquet"}
#: Page and figure of the scores, see `nearfar.report.write_scores_page`.
SCORES_PAGE, _FIGURE = "scores.html", "scores.png"
_OWN = {_WORST, _HEAT, _ALERTS, _QUALITY, SCORES_PAGE, _FIGURE, *_SCORES.values()}

#: Minimum number of files to decide whether they are photographs.
_FEW = 12
#: Name of the folder of normal images next to folders of defective ones, as in MVTec AD.
_NORMAL = "good"

#: Frame rate of heat map videos for clips without a known rate.
_DEFAULT_RATE = 10.0


@dataclass(frozen=True)
class ScoringSummary:
    """Summary of scored clips.

    Attributes
    ----------
    frames : int
        Number of scored frames.
    alerts : list of dict
        Abnormal spans, or defective images, as in ``alerts.json``.
    skipped : list of str
        One line per damaged frame, per clip that was not scored to its end, and per kind of unused
        file or folder.
    notes : list of str
        One line per other irregularity in a clip, such as lost frames.
    quality : dict or None
        Metrics based on masks or, for photographs without masks, on folder names, where "good"
        means normal. Undefined metrics are None. `quality` is None without masks and such folder
        names.
    overview : Overview
        Pictures with the highest scores, and scores over time.

    Examples
    --------
    >>> ScoringSummary(frames=60, alerts=[], skipped=[], notes=[], quality=None).frames
    60
    """

    frames: int
    alerts: list[dict[str, Any]]
    skipped: list[str]
    notes: list[str]
    quality: dict[str, Any] | None
    overview: Overview = field(default_factory=Overview)


def score_clips(
    detector: Detector,
    clips: Sequence[Clip],
    out: str | os.PathLike[str],
    *,
    masks: str | os.PathLike[str] | None = None,
    format: Format = "csv",
    overwrite: bool = False,
    on_finish: Callable[[ScoringSummary], object] | None = None,
    track: Track = silent,
) -> ScoringSummary:
    """Score clips, and write scores, alerts, heat maps and the most abnormal frames.

    The output folder is checked before clips are read. CSV is written line by line. After an
    interruption or termination, the output covers the frames scored so far. After an error, the
    output is removed. After a crash, the same call starts from the beginning. If some of several
    clips cannot be scored, they are reported in `skipped`.

    Parameters
    ----------
    detector : Detector
        Fitted detector.
    clips : sequence of Clip
        Clips to score.
    out : str or path
        Folder to write to.
    masks : str or path, optional
        Folder of masks. See `find_masks`.
    format : {"csv", "parquet"}
        File format of the scores.
    overwrite : bool
        Whether to replace earlier output.
    on_finish : callable, optional
        Function that is called with the summary before the output is marked as complete. It can
        write further files, as `nearfar.report.write_scores_page` does.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Returns
    -------
    ScoringSummary

    Raises
    ------
    NearfarError
        If no clip or mask can be used; if masks do not match the frames; or if the output folder
        contains other files or earlier output, or cannot be written to.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from nearfar.anomaly import ArrayClip, DetectorConfig, Grid
    >>> class Brightness:
    ...     def score(self, window, grid):
    ...         return grid.means(window[-1].astype(np.float32))
    >>> config = DetectorConfig.paper(patch=8, stride=8, independent_frames=True)
    >>> detector = Detector(config, Grid((16, 16), 8, 8), [Brightness()], threshold=100)
    >>> images = ArrayClip([np.full((16, 16), level, np.uint8) for level in (50, 200)])
    >>> with TemporaryDirectory() as folder:
    ...     summary = score_clips(detector, [images], Path(folder) / "out")
    >>> [alert["number"] for alert in summary.alerts]
    [1]
    """
    out = Path(out)
    try_output(out, overwrite=overwrite or is_unfinished_output(out), folder=True)
    if not detector.config.independent_frames:
        require("av", extra="video")
    if not clips:
        raise NearfarError("there are no clips: expected clips to score")
    same_size = not detector.config.photographs
    ground_truth = find_masks(clips, masks, detector.config.size, same_size=same_size)
    _check_any_fits(detector, clips)
    notes = _check_kind(detector, clips)
    failed: list[NearfarError] = []
    with _termination_as_interrupt(), open_output(out, _OWN):
        by_folder = ground_truth.count(None) == len(clips) and _has_normal_folder(clips)
        output = _Output(out, detector, format, by_folder=by_folder)

        def finish() -> ScoringSummary:
            unused = getattr(clips, "skipped", [])
            skipped = [*unused, *(line for clip in clips for line in clip.skipped)]
            noted = [*notes, *(line for clip in clips for line in clip.notes)]
            summary = output.finish(skipped, noted, failed)
            if on_finish is not None:
                on_finish(summary)
            return summary

        try:
            everything = _score_all(detector, clips, ground_truth, failed)
            total = sum(clip.nominal_total for clip in clips)
            for clip, result, mask in track(everything, "scoring", total):
                output.add(clip, result, mask)
            if failed and (len(clips) == 1 or not output.scores.count):
                raise failed[0]
            return finish()
        except KeyboardInterrupt:
            if output.scores.count:
                finish()
            raise
        except BaseException:
            output.abandon()
            raise


def _has_normal_folder(clips: Sequence[Clip]) -> bool:
    """Return whether folder names tell normal images from abnormal ones, as in MVTec AD."""
    return len(clips) > 1 and any(clip.name == _NORMAL for clip in clips)


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on a termination signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_any_fits(detector: Detector, clips: Sequence[Clip]) -> None:
    """Raise an error if no clip can be scored, before anything is overwritten."""
    errors = []
    for clip in clips:
        try:
            detector.check_rate(clip)
            shape = next(iter(clip)).pixels.shape
            detector.check_size((shape[0], shape[1]), clip.name)
        except NearfarError as error:
            errors.append(error)
        else:
            return
    raise errors[0]


def _check_kind(detector: Detector, clips: Sequence[Clip]) -> list[str]:
    """Check that a detector for video is not used for photographs, and return any notes.

    Raises
    ------
    NearfarError
        If the detector was fitted to a video, and the clips are photographs.
    """
    config = detector.config
    if config.independent_frames or (config.frames == 1 and not config.smoothing):
        return []
    found = continuity(clips)
    if found.kind == "video" or sum(clip.nominal_total for clip in clips) < _FEW:
        return []
    line = (
        f"{clips[0].name!r} looks like photographs, since {found.reason}, but the detector is for "
        f"video"
    )
    if detector.continuous:
        raise NearfarError(
            f"{line}: expected the frames of a video in their order, or a detector that was fitted "
            "with --setting stills"
        )
    return [f"{line}: neighboring scores are averaged"]


def _score_all(
    detector: Detector,
    clips: Sequence[Clip],
    ground_truth: Sequence[Masks | None],
    failed: list[NearfarError],
) -> Iterator[tuple[Clip, FrameResult, Mask | None]]:
    """Score clips one by one, and yield each frame with its mask.

    Errors are added to `failed`.
    """
    for clip, masks in zip(clips, ground_truth, strict=True):
        try:
            for result in score_with_pixels(detector, clip):
                number, shape = result.scored.number, result.pixels.shape[:2]
                mask = None if masks is None else masks.mask(number, clip.name, shape)
                yield clip, result, mask
            if masks is not None and not clip.skipped and not clip.notes:
                masks.check_end(number, clip.name)
        except MaskError:
            raise
        except NearfarError as error:
            failed.append(error)


class _Output:
    """Writer of the output for all frames to a folder."""

    def __init__(
        self, out: Path, detector: Detector, format: Format, *, by_folder: bool = False
    ) -> None:
        self.out, self.detector = out, detector
        self.independent = detector.config.independent_frames
        self.by_folder = by_folder and self.independent
        (out / _WORST).mkdir(parents=True, exist_ok=True)
        (out / _HEAT).mkdir(exist_ok=True)
        self.scores = ScoreWriter(out / _SCORES[format])
        self.alerts = Alerts(detector.threshold, join=not self.independent)
        self.worst = WorstFrames(distance=1 if self.independent else WORST_DISTANCE)
        self.overview = OverviewCollector(detector.threshold, independent=self.independent)
        self.evaluator, self.regions, self.has_masks = Evaluator(), RegionCurve(), False
        self._video: tuple[Clip, VideoWriter] | None = None
        self._open = ExitStack()

    def add(self, clip: Clip, result: FrameResult, mask: Mask | None) -> None:
        """Add the next frame."""
        number, score, _ = result.scored
        heat = self._upsample(result)
        abnormal = self.alerts.add(result)
        self.scores.add((clip.name, number, result.file, score, abnormal, result.time))
        self.worst.add(_without_pixels(result) if self.independent else result)
        self.overview.add(result, heat, len(self.alerts.spans) if abnormal else None)
        picture = self._draw(result, heat)
        if self.independent:
            write_picture(self._heat_file(result), picture)
        else:
            self._video_of(clip).add(picture)
        if mask is not None:
            self.has_masks = True
            self.evaluator.add(clip.name, score, heat, mask)
            if self.independent:
                self.regions.add(heat, mask)
        elif self.by_folder:
            self.evaluator.add_image(clip.name, score, abnormal=clip.name != _NORMAL)

    def abandon(self) -> None:
        """Close all files, which remain incomplete."""
        with suppress(Exception):
            self._open.close()
        with suppress(Exception):
            self.scores.close()

    def finish(
        self, skipped: list[str], notes: list[str], failed: Sequence[NearfarError]
    ) -> ScoringSummary:
        """Write the output that depends on all frames, and return the summary."""
        self._open.close()
        self.scores.close()
        for place, result in enumerate(self.worst.frames(), start=1):
            name = fitting_name(f"{place:02}-{self._name(result)}", ".png")
            if self.independent:
                shutil.copyfile(self._heat_file(result), self.out / _WORST / name)
            else:
                picture = self._draw(result, self._upsample(result))
                write_picture(self.out / _WORST / name, picture)
        skipped = [*skipped, *map(str, failed)]
        config, alerts = self.detector.config, self.alerts.to_list()
        calibration = {
            "threshold": self.detector.threshold,
            "false_alarms": config.false_alarms,
            "calibrated_on": self.detector.calibrated_on,
            "expected_false_alarms": self.detector.expected_false_alarms,
        }
        count = self.scores.count
        counts = {"images": count, "defective": len(alerts)} if self.independent else {}
        said = {"alerts": alerts, "skipped": skipped, "notes": notes}
        write_json(self.out / _ALERTS, {**calibration, **counts, **said})
        quality = self.evaluator.result() if self.has_masks else None
        if self.by_folder and count:
            quality = self.evaluator.images(self.detector.threshold)
        if quality is not None:
            if self.independent and self.has_masks:
                del quality["frames"], quality["abnormal"]
                images = self.evaluator.images(self.detector.threshold)
                quality = {**images, **quality, "pro": self.regions.auc()}
            write_json(self.out / _QUALITY, quality)
        return ScoringSummary(count, alerts, skipped, notes, quality, self.overview.overview())

    def _video_of(self, clip: Clip) -> VideoWriter:
        if self._video is None or self._video[0] is not clip:
            self._open.close()
            path = self.out / _HEAT / fitting_name(clip.name, ".mp4")
            writer = self._open.enter_context(open_video(path, clip.rate or _DEFAULT_RATE))
            self._video = clip, writer
        return self._video[1]

    def _upsample(self, result: FrameResult) -> ScoreMap:
        height, width = result.pixels.shape[:2]
        return self.detector.upsample(result.scored.heat, (height, width))

    def _draw(self, result: FrameResult, heat: ScoreMap) -> Any:
        number, score, _ = result.scored
        label = f"{result.file if self.independent else number}  {score:.3g}"
        return overlay(result.pixels, heat, self.detector.threshold, label)

    def _heat_file(self, result: FrameResult) -> Path:
        return self.out / _HEAT / fitting_name(self._name(result), ".png")

    def _name(self, result: FrameResult) -> str:
        """Return the name of a frame's picture."""
        name = f"{result.clip}-{result.scored.number:05}"
        return f"{name}-{Path(result.file).stem}" if self.independent else name


def _without_pixels(result: FrameResult) -> FrameResult:
    """Return a result without its pixels and heat map, which may require 200 MB of memory."""
    scored = result.scored._replace(heat=np.empty((0, 0), np.float32))
    return result._replace(pixels=np.empty((0, 0), np.uint8), scored=scored)
