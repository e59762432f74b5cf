"""Scoring whole clips into a folder."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nearfar.anomaly.clips import Clip
from nearfar.anomaly.detector import Detector
from nearfar.anomaly.judging import Judge
from nearfar.anomaly.masks import Mask, Masks, find_masks
from nearfar.anomaly.metrics import RegionCurve
from nearfar.anomaly.patches import Map
from nearfar.anomaly.results import (
    APART,
    Alerts,
    ScoreWriter,
    Seen,
    VideoWriter,
    Worst,
    open_video,
    overlay,
    watch,
    write_picture,
)
from nearfar.errors import NearfarError, require
from nearfar.files import claim_output, clear_folder, fitting_name, write_json
from nearfar.progress import Track, silent

WORST, HEAT, ALERTS, QUALITY = "worst", "heat", "alerts.json", "quality.json"
SCORES = {"csv": "scores.csv", "parquet": "scores.parquet"}
OWN = {WORST, HEAT, ALERTS, QUALITY, *SCORES.values()}

#: Frames a second of heat maps where nothing says how many.
USUAL_RATE = 10.0


@dataclass(frozen=True)
class Summary:
    """What scoring found.

    Attributes
    ----------
    frames : int
        How many were scored.
    alerts : list of dict
        The abnormal spans, as in ``alerts.json``.
    skipped : list of str
        One line for each damaged frame, and for each clip that cannot be used to its end.
    quality : dict or None
        Measures by the masks, if there are any; None stands for what is undefined.
    """

    frames: int
    alerts: list[dict[str, Any]]
    skipped: list[str]
    quality: dict[str, Any] | None


def score_clips(
    detector: Detector,
    clips: Sequence[Clip],
    out: Path,
    *,
    masks: Path | None = None,
    format: Literal["csv", "parquet"] = "csv",
    overwrite: bool = False,
    track: Track = silent,
) -> Summary:
    """Score clips, and write scores, alerts, heat maps and the worst frames.

    CSV is written line by line as frames are scored; the rest also if it is interrupted or
    terminated, as far as it has come. Of several clips, one that cannot be used is reported like a
    damaged frame.

    Raises
    ------
    NearfarError
        If no clip can be used, or not the masks, or the folder is taken or holds something else.
    """
    claim_output(out, overwrite=overwrite, folder=True)
    if format == "parquet":
        require("pyarrow.parquet", extra="parquet")
    if not detector.config.photographs:
        require("av", extra="video")
    if not clips:
        raise NearfarError("there are no clips: expected some to score")
    known = find_masks(clips, masks, detector.config.size)
    _check_any_fits(detector, clips)
    if overwrite and out.is_dir():
        clear_folder(out, OWN)
    results = _Results(out, detector, format)
    failed: list[NearfarError] = []
    with _termination_as_interrupt():
        try:
            everything = _watch_all(detector, clips, known, failed)
            for clip, seen, mask in track(everything, "scoring", sum(c.declared for c in clips)):
                results.add(clip, seen, mask)
        finally:
            summary = results.finish([line for clip in clips for line in clip.skipped], failed)
            if not summary.frames:
                clear_folder(out, OWN)
    if failed and (len(clips) == 1 or not summary.frames):
        raise failed[0]
    return summary


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let a termination signal stop what is under way as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_any_fits(detector: Detector, clips: Sequence[Clip]) -> None:
    """Refuse what cannot be scored before anything is overwritten."""
    errors = []
    for clip in clips:
        try:
            detector.check_rate(clip)
            detector.grid.check(next(iter(clip)).pixels.shape, clip.name)
        except NearfarError as error:
            errors.append(error)
        else:
            return
    raise errors[0]


def _watch_all(
    detector: Detector,
    clips: Sequence[Clip],
    known: Sequence[Masks | None],
    failed: list[NearfarError],
) -> Iterator[tuple[Clip, Seen, Mask | None]]:
    """Score clip after clip, each frame with its mask; what goes wrong is added to `failed`."""
    for clip, masks in zip(clips, known, strict=True):
        try:
            for seen in watch(detector, clip):
                number, shape = seen.scored.number, seen.pixels.shape
                yield clip, seen, None if masks is None else masks.of(number, clip.name, shape)
        except NearfarError as error:
            failed.append(error)


class _Results:
    """Writes all that is to be seen of scored frames into a folder."""

    def __init__(self, out: Path, detector: Detector, format: Literal["csv", "parquet"]) -> None:
        self.out, self.detector, self.stills = out, detector, detector.config.photographs
        (out / WORST).mkdir(parents=True, exist_ok=True)
        (out / HEAT).mkdir(exist_ok=True)
        self.scores = ScoreWriter(out / SCORES[format])
        self.alerts = Alerts(detector.threshold, join=not self.stills)
        self.worst = Worst(apart=1 if self.stills else APART)
        self.judge, self.regions, self.judged = Judge(), RegionCurve(), False
        self._video: tuple[Clip, VideoWriter] | None = None
        self._open = ExitStack()

    def add(self, clip: Clip, seen: Seen, mask: Mask | None) -> None:
        """Add the next frame."""
        number, score, _ = seen.scored
        heat = self.detector.grid.spread(seen.scored.heat)
        self.scores.add((clip.name, number, seen.file, score, self.alerts.add(seen)))
        self.worst.add(seen)
        picture = self._picture(seen, heat)
        if self.stills:
            write_picture(self.out / HEAT / fitting_name(self._name(seen), ".png"), picture)
        else:
            self._video_of(clip).add(picture)
        if mask is not None:
            self.judged = True
            self.judge.add(clip.name, score, heat, mask)
            if self.stills:
                self.regions.add(heat, mask)

    def finish(self, skipped: list[str], failed: Sequence[NearfarError]) -> Summary:
        """Write what can only be written at the end."""
        self._open.close()
        self.scores.close()
        for place, seen in enumerate(self.worst.frames(), start=1):
            picture = self._picture(seen, self.detector.grid.spread(seen.scored.heat))
            name = f"{place:02}-{self._name(seen)}"
            write_picture(self.out / WORST / fitting_name(name, ".png"), picture)
        skipped = [*skipped, *map(str, failed)]
        config, alerts = self.detector.config, self.alerts.to_list()
        described = {
            "threshold": self.detector.threshold,
            "false_alarms": config.false_alarms,
            "calibrated_on": self.detector.calibrated_on,
        }
        write_json(self.out / ALERTS, {**described, "alerts": alerts, "skipped": skipped})
        quality = self.judge.result() if self.judged else None
        if quality is not None:
            if self.stills:
                quality["pro"] = self.regions.area()
            write_json(self.out / QUALITY, quality)
        return Summary(self.scores.count, alerts, skipped, quality)

    def _video_of(self, clip: Clip) -> VideoWriter:
        if self._video is None or self._video[0] is not clip:
            self._open.close()
            path = self.out / HEAT / fitting_name(clip.name, ".mp4")
            writer = self._open.enter_context(open_video(path, clip.rate or USUAL_RATE))
            self._video = clip, writer
        return self._video[1]

    def _picture(self, seen: Seen, heat: Map) -> Any:
        number, score, _ = seen.scored
        label = f"{seen.file if self.stills else number}  {score:.3g}"
        return overlay(seen.pixels, heat, self.detector.threshold, label)

    def _name(self, seen: Seen) -> str:
        """What the picture of a frame is called."""
        name = f"{seen.clip}-{seen.scored.number:05}"
        return f"{name}-{Path(seen.file).stem}" if self.stills else name
