"""Command ``nearfar anomaly``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from nearfar.cli.options import Overwrite, Seed, bars_after_torch, report_skipped, shown
from nearfar.errors import NearfarError
from nearfar.files import is_unfinished_output, try_output
from nearfar.progress import tracked

if TYPE_CHECKING:
    from nearfar.anomaly import Detector, DetectorConfig
    from nearfar.progress import Bars

#: Names of the metrics that count abnormal items according to masks or folders.
_TRUTH = {"abnormal": "truly abnormal", "defective": "truly defective"}
#: Factor by which more false alarms than wanted are worth a note.
_TOO_MANY = 1.1
#: Number of the highest scores to print.
_NAMED = 5

anomaly = App(
    name="anomaly",
    help=(
        "Detect anomalies in video and still images.\n\n"
        "A detector is trained on normal frames only, and scores new ones."
    ),
)


@anomaly.command
def fit(
    frames: str,
    *,
    out: Annotated[Path, Parameter(help="Folder to write the detector to.")],
    setting: Literal["auto", "video", "paper", "stills"] = "auto",
    method: Literal["auto", "patch-memory", "image-memory", "cut-paste"] = "auto",
    size: tuple[int, int] | None = None,
    false_alarms: float | None = None,
    loss_weights: tuple[float, float, float] | None = None,
    pretrain_epochs: int | None = None,
    epochs: int | None = None,
    seed: Seed = 0,
    resume: bool = False,
    overwrite: Overwrite = False,
) -> None:
    """Fit a detector to normal frames.

    The threshold is set on held-out frames: every fourth clip or, with fewer than four clips, the
    last quarter of each clip. With the method for photographs, each photograph is scored against
    all others instead.

    **Examples**

        nearfar anomaly fit UCSDped2/Train --out run
        nearfar anomaly fit camera.mp4 --out run
        nearfar anomaly fit good_products --out run --size 256 256

    Parameters
    ----------
    frames
        A video; a folder of photographs; a folder of frames, in the order of their names; or a
        folder that contains several videos or folders of frames.
    setting
        "auto" chooses "video" for videos and for folders in which consecutive files look alike, and
        "stills" for other folders. "video" finds objects that move too fast, are too large, glide,
        or look unusual. "paper" finds 30×30 patches of single frames that are poorly reconstructed.
        "stills" finds regions of unrelated images that differ from normal ones.
    method
        Method for photographs. "patch-memory" finds regions unlike any normal region;
        "image-memory" finds images unlike any normal image; "cut-paste" requires no pretrained
        encoder. "auto" chooses "patch-memory" if the images resemble each other, and
        "image-memory" otherwise.
    size
        Height and width to which every frame is resized, for fitting and for scoring. Frames are
        not cropped, so the aspect ratio may change. Default: no resizing.
    false_alarms
        Maximum fraction of new normal frames or photographs with a score above the threshold.
        Default: 0.01, or 0.05 for photographs.
    loss_weights
        Weights of the frame itself, near samples and far samples in the objective (only with
        --setting paper). Default: 0.6 0.4 0.
    pretrain_epochs
        Epochs of plain autoencoder training (only with --setting paper). Default: 5.
    epochs
        Epochs of training with the relational objective (only with --setting paper). Default: 5.
    resume
        Continue an interrupted fit in --out. Frames and options must be the same.
    """
    try_output(out, overwrite=overwrite or resume, folder=True)
    track = bars_after_torch()

    from nearfar.anomaly import (
        DEFAULT_TRAINING,
        DetectorConfig,
        continuity,
        fit_detector,
        is_unfinished,
        open_clips,
    )
    from nearfar.config import configure

    if method != "auto" and setting not in ("auto", "stills"):
        raise NearfarError(f"--method {method} with --setting {setting}: expected --setting stills")
    clips = open_clips(frames, size=size)
    presets: dict[str, Callable[..., DetectorConfig]] = {
        "auto": partial(DetectorConfig.auto, clips),
        "video": partial(DetectorConfig.video, clips),
        "paper": DetectorConfig.paper,
        "stills": partial(DetectorConfig.stills, clips),
    }
    chosen: dict[str, Any] = {} if false_alarms is None else {"false_alarms": false_alarms}
    found = continuity(clips)
    if method != "auto":
        chosen["methods"] = (method,)
        if setting == "auto" and found.kind == "video":
            raise NearfarError(
                f"--method {method} is for photographs, but {found.reason}: "
                "expected --setting stills"
            )
    config = presets[setting](size=size, **chosen)
    if setting == "auto":
        setting = "stills" if config.independent_frames else "video"
        print(f"setting: {setting}, because {found.reason}")
    elif setting != "paper" and (setting == "video") != (found.kind == "video"):
        other = "stills" if setting == "video" else "video"
        warn(f"--setting {setting}, but {found.reason}: expected --setting {other}", track)
    if size is not None:
        height, width = size
        print(f"size: every frame is resized to {height}x{width} without cropping")
    if config.photographs:
        encoder = "" if "cut-paste" in config.methods else f", with {config.encoder}"
        print(f"photographs are scored by {' and '.join(config.methods)}{encoder}")
        if method == "auto" and "image-memory" in config.methods:
            print(
                "they hardly resemble each other, so each is compared as a whole; to find small "
                "defects, use --method patch-memory"
            )
    if setting == "video":
        print(
            f"moving objects are scored by {' and '.join(config.methods)}, in {_frames(config)} "
            "(from the height of what moves, and the frame rate)"
        )
    options = {
        "loss_weights": loss_weights,
        "pretrain_epochs": pretrain_epochs,
        "epochs": epochs,
        "seed": seed,
    }
    training = configure(options, base=DEFAULT_TRAINING)
    try:
        detector = fit_detector(
            clips, out, config, training, resume=resume, overwrite=overwrite, track=track
        )
    except KeyboardInterrupt as interrupt:
        again = "with --resume" if is_unfinished(out) else "again, since nothing is saved yet"
        raise KeyboardInterrupt(f"stopped: run the same command {again}") from interrupt
    skipped = [*clips.skipped, *(line for clip in clips for line in clip.skipped)]
    report_skipped(skipped, track.progress.console)
    for line in (line for clip in clips for line in clip.notes):
        warn(line, track)
    stills = config.independent_frames
    one, what = ("an image", "defective") if stills else ("a frame", "abnormal")
    print(f"the detector is in {shown(out)}; {one} is {what} above {detector.threshold:.4g}")
    print(
        f"false alarms to expect: {100 * (detector.expected_false_alarms or 0):.2g} % of normal "
        f"{'images' if stills else 'frames'}, if they are like the {detector.calibrated_on} that "
        "set the threshold"
    )
    if note := _note_on_threshold(detector):
        print(note)


@anomaly.command
def score(
    run: Annotated[Path, Parameter(help="Folder of a detector, from nearfar anomaly fit.")],
    frames: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    out: Annotated[Path | None, Parameter(help="Folder to write to.")] = None,
    follow: bool = False,
    masks: Path | None = None,
    format: Literal["csv", "parquet"] = "csv",
    overwrite: Overwrite = False,
) -> None:
    """Score frames or photographs, and show where and when they are abnormal.

    Writes scores.html, a page of pictures sorted by decreasing score; a table with the score of
    each frame; alerts.json with the start and end of each abnormal span, or with the defective
    images; the most abnormal frames; and heat maps, as one video per clip or one picture per
    photograph. If masks are given, detection metrics are written, too.

    **Examples**

        nearfar anomaly score run UCSDped2/Test --out scored
        nearfar anomaly score run camera.mp4 --out scored
        nearfar anomaly score run bottle/test --masks bottle/ground_truth --out scored
        nearfar anomaly score run rtsp://camera/stream --follow

    Parameters
    ----------
    frames
        Frames as for nearfar anomaly fit, or a single image. With --follow: an address (rtsp, rtmp,
        http, srt, tcp, udp), a device such as /dev/video0, a file, or - for standard input.
    follow
        Print one line of JSON per alert as it happens, instead of writing to a folder. The command
        runs as long as the camera does. If the connection is lost, the camera is reopened.
    masks
        Ground-truth masks, black where a frame is normal: a folder with one mask per frame, named
        like the frame (NAME or NAME_mask) or, for a video, numbered from 0 or 1. For several clips:
        a folder with one such folder per clip, named like the clip. Clips without masks are normal.
        Default: folders next to the clips with the suffix _gt, if any.
    format
        File format of the scores.
    """
    if follow:
        if out is not None or masks is not None:
            raise NearfarError("--follow with --out or --masks: expected neither")
        print_alerts(run, frames)
        return
    if out is None:
        raise NearfarError("--out is missing: expected a folder to write to, or --follow")
    try_output(out, overwrite=overwrite or is_unfinished_output(out), folder=True)
    track = bars_after_torch()

    from nearfar.anomaly import SCORES_PAGE, open_clips, read_detector, score_clips
    from nearfar.report import write_scores_page

    detector = read_detector(run)
    clips = open_clips(frames, size=detector.config.size)
    try:
        summary = score_clips(
            detector,
            clips,
            out,
            masks=masks,
            format=format,
            overwrite=overwrite,
            on_finish=lambda summary: write_scores_page(out, detector, summary, track=track),
            track=track,
        )
    except KeyboardInterrupt as interrupt:
        scored = out.is_dir() and any(out.iterdir())
        kept = f"scores so far are in {shown(out)}" if scored else "nothing is scored yet"
        raise KeyboardInterrupt(f"stopped: {kept}") from interrupt
    report_skipped(summary.skipped, track.progress.console)
    for line in summary.notes:
        warn(line, track)
    found = len(summary.alerts)
    if detector.config.independent_frames:
        counts = f"{summary.frames} images, {found} defective"
    else:
        counts = f"{summary.frames} frames, {found} abnormal span{'s' * (found != 1)}"
    print(f"{counts}; output is in {shown(out)}")
    if highest := summary.overview.highlights[:_NAMED]:
        print("highest scores:")
    for each in highest:
        print(f"  {each.score:.4g}  {each.name}")
    print(f"a page of pictures, scores and threshold is in {shown(out / SCORES_PAGE)}")
    note = _note_on_threshold(detector)
    if note and summary.quality is None:
        print(f"{note}: look also at the highest scores below it")
    for name, value in (summary.quality or {}).items():
        print(f"{_TRUTH.get(name, name)}: {_metric(value)}")


def _note_on_threshold(detector: Detector) -> str:
    """Return a note if there are too few normal frames for `false_alarms`, otherwise ""."""
    share, expected = detector.config.false_alarms, detector.expected_false_alarms
    if expected is None or expected < _TOO_MANY * share:
        return ""
    frames = "images" if detector.config.independent_frames else "frames"
    return (
        f"note: the threshold is the highest score of {detector.calibrated_on} normal {frames}, "
        f"too few for {100 * share:g} % of false alarms"
    )


def _frames(config: DetectorConfig) -> str:
    every = "every frame" if config.step == 1 else f"one frame in {config.step}"
    if config.zoom == 1:
        return every
    change = "downscaled" if config.zoom > 1 else "enlarged"
    return f"{every}, {change} by {max(config.zoom, 1 / config.zoom):.2g}"


def _metric(value: float | Sequence[str] | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.4g}" if isinstance(value, int | float) else ", ".join(value) or "none"


@anomaly.command
def export(
    run: Annotated[Path, Parameter(help="Folder of a detector for photographs.")],
    *,
    out: Annotated[Path, Parameter(help="ONNX file to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Export a detector for photographs to an ONNX file, for programs without nearfar.

    The input is "image", an RGB image (uint8[height, width, 3]) of the same size as the normal
    images. The outputs are "score"; "heat", a heat map of that size; and "defective".

    **Examples**

        nearfar anomaly export run --out detector.onnx
    """
    try_output(out, overwrite=overwrite)
    track = bars_after_torch()

    from nearfar.anomaly import export_detector, read_detector

    detector = read_detector(run)
    tracked(track, "exporting to onnx", lambda: export_detector(detector, out))
    height, width = detector.size
    print(f"{shown(out)} takes images of {height}x{width} pixels")


def print_alerts(run: Path, source: str) -> None:
    """Print one line of JSON for each alert of a stream."""
    from nearfar.anomaly import follow, read_detector

    for alert in follow(read_detector(run), source, notify=partial(print, file=sys.stderr)):
        print(json.dumps(asdict(alert)), flush=True)


def warn(line: str, track: Bars) -> None:
    """Print a warning above the progress bars."""
    track.progress.console.print(
        f"warning: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True
    )
