"""Scoring whole clips into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nearfar.anomaly.clips import Clip
from nearfar.anomaly.detector import Detector
from nearfar.anomaly.judging import Judge
from nearfar.anomaly.masks import Mask, Masks, read_masks
from nearfar.anomaly.metrics import RegionCurve
from nearfar.anomaly.results import (
    Alerts,
    Seen,
    Worst,
    open_video,
    overlay,
    watch,
    write_picture,
    write_scores,
)
from nearfar.errors import NearfarError, require
from nearfar.files import claim_output, clear_folder, write_json
from nearfar.progress import Track, silent

WORST, HEAT, ALERTS, QUALITY = "worst", "heat", "alerts.json", "quality.json"
SCORES = {"csv": "scores.csv", "parquet": "scores.parquet"}
OWN = {WORST, HEAT, ALERTS, QUALITY, *SCORES.values()}


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
        One line for each damaged frame.
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

    Raises
    ------
    NearfarError
        If the clips or masks cannot be used, or the folder is taken, or holds something else.
    """
    claim_output(out, overwrite=overwrite, folder=True)
    if format == "parquet":
        require("pyarrow.parquet", extra="parquet")
    if masks is not None and len(clips) != 1:
        raise NearfarError(f"masks for {len(clips)} clips: expected one folder of frames")
    if overwrite and out.is_dir():
        clear_folder(out, OWN)
    (out / WORST).mkdir(parents=True, exist_ok=True)
    (out / HEAT).mkdir(exist_ok=True)
    alerts, worst, judge = Alerts(detector.threshold), Worst(), Judge()
    rows: list[tuple[str, int, float, bool]] = []
    skipped: list[str] = []
    regions = RegionCurve()
    judged = False
    stills = detector.config.frames == 1
    for clip in track(clips, "scoring", len(clips)):
        known = read_masks(clip, masks, clip.size)
        with ExitStack() as stack:
            video = None
            for seen in watch(detector, clip):
                if video is None and not stills:  # only now is the rate of a video known
                    path = out / HEAT / f"{clip.name}.mp4"
                    video = stack.enter_context(open_video(path, clip.rate))
                number, score = seen.scored.number, seen.scored.score
                rows.append((clip.name, number, score, alerts.add(clip.name, number, score)))
                worst.add(seen)
                picture = _picture(detector, seen)
                if video is None:
                    write_picture(out / HEAT / f"{clip.name}-{number:05}.png", picture)
                else:
                    video.add(picture)
                if known is not None:
                    judged = True
                    heat, mask = detector.grid.spread(seen.scored.heat), _mask_of(known, seen)
                    judge.add(clip.name, score, heat, mask)
                    if stills:
                        regions.add(heat, mask)
        skipped += clip.skipped
    for place, seen in enumerate(worst.frames, start=1):
        name = f"{place:02}-{seen.clip}-{seen.scored.number:05}.png"
        write_picture(out / WORST / name, _picture(detector, seen))
    write_scores(out / SCORES[format], rows)
    quality = judge.result() if judged else None
    if quality is not None and stills:
        quality["pro"] = regions.area()
    write_json(
        out / ALERTS,
        {
            "threshold": detector.threshold,
            "false_alarms": detector.config.false_alarms,
            "alerts": alerts.to_list(),
            "skipped": skipped,
        },
    )
    if quality is not None:
        write_json(out / QUALITY, quality)
    return Summary(len(rows), alerts.to_list(), skipped, quality)


def _picture(detector: Detector, seen: Seen) -> Any:
    return overlay(seen.pixels, detector.grid.spread(seen.scored.heat), detector.threshold)


def _mask_of(masks: Masks, seen: Seen) -> Mask:
    """The mask of a frame."""
    if seen.scored.number >= len(masks) or masks.shape != seen.pixels.shape:
        raise NearfarError(
            f"{seen.clip!r} has frame {seen.scored.number} of shape {seen.pixels.shape}, its masks "
            f"are {len(masks)} of shape {masks.shape}: expected one of the same shape for each"
        )
    return masks[seen.scored.number]
