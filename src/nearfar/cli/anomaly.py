"""``nearfar anomaly``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from nearfar.cli.options import Overwrite, Seed, bars, report_skipped

anomaly = App(
    name="anomaly",
    help=(
        "Find what is not normal, in video and in photographs.\n\n"
        "A detector is fitted to normal frames alone, and scores new ones."
    ),
)


@anomaly.command
def fit(
    frames: str,
    *,
    out: Annotated[Path, Parameter(help="The folder to keep the detector in.")],
    setting: Literal["video", "paper", "stills"] = "video",
    size: tuple[int, int] | None = None,
    false_alarms: float = 0.01,
    weights: tuple[float, float, float] = (0.6, 0.4, 0.0),
    pretrain_epochs: int = 5,
    epochs: int = 5,
    seed: Seed = 0,
    resume: bool = False,
    overwrite: Overwrite = False,
) -> None:
    """Fit a detector to normal frames.

    Every fourth clip, or of fewer clips the last quarter of each, is not learned from: there, the
    threshold is taken.

    **For example**

        nearfar anomaly fit UCSDped2/Train --out run
        nearfar anomaly fit camera.mp4 --out run
        nearfar anomaly fit good_products --out run --setting stills --size 256 256

    Parameters
    ----------
    frames
        A video, a folder of images, which are its frames in the natural order of their names, or
        a folder of such folders and videos.
    setting
        video looks for what moves too fast, is too large, glides, or looks odd; paper for patches
        of single frames that are badly reconstructed; stills for patches of single images that are
        unlike normal ones.
    size
        HEIGHT WIDTH that these and all later frames are scaled to; as they are if not given.
    false_alarms
        The share of normal frames, not learned from, that the threshold calls abnormal.
    weights
        OWN NEAR FAR of the objective, for paper and stills.
    pretrain_epochs
        Epochs of the plain autoencoder, for paper and stills.
    epochs
        Epochs of the relations, for paper and stills.
    resume
        Continue what was interrupted in the --out folder, given the same frames and options.
    """
    from nearfar.anomaly import DetectorConfig, fit_detector, open_clips
    from nearfar.anomaly.folder import BEGUN
    from nearfar.training.config import TrainConfig

    if setting == "video":
        config = DetectorConfig(false_alarms=false_alarms, size=size)
    else:
        config = getattr(DetectorConfig, setting)(false_alarms=false_alarms, size=size)
    training = TrainConfig(
        weights=weights, pretrain_epochs=pretrain_epochs, epochs=epochs, seed=seed
    )
    clips, track = open_clips(frames, size=size), bars()
    try:
        detector = fit_detector(
            clips, out, config, training, resume=resume, overwrite=overwrite, track=track
        )
    except KeyboardInterrupt as interrupt:
        begun = (out / BEGUN).is_file()
        again = "with --resume" if begun else "again, as nothing is kept yet"
        raise KeyboardInterrupt(f"stopped: give the same command {again}") from interrupt
    report_skipped([line for clip in clips for line in clip.skipped], track.progress.console)
    print(f"the detector is in {out}; a frame is abnormal above {detector.threshold:.4g}")
    normal = detector.calibrated_on
    if normal <= 1 / false_alarms:
        print(
            f"note: the threshold is the highest of {normal} normal frames: too few to know the "
            f"score that a share of {false_alarms:g} of them is above"
        )


@anomaly.command
def score(
    run: Annotated[Path, Parameter(help="A folder from nearfar anomaly fit.")],
    frames: str,
    *,
    out: Annotated[Path, Parameter(help="The folder to write to.")],
    masks: Path | None = None,
    format: Literal["csv", "parquet"] = "csv",
    overwrite: Overwrite = False,
) -> None:
    """Score frames, and show where and when they are not normal.

    Writes a score for each frame, alerts.json with the start and end of each abnormal span, the
    worst frames, and heat maps: a video for each clip, or for photographs a picture for each. If
    masks are there, judges the scores by them.

    **For example**

        nearfar anomaly score run UCSDped2/Test --out scored
        nearfar anomaly score run camera.mp4 --out scored
        nearfar anomaly score run bottle/test --masks bottle/ground_truth --out scored

    Parameters
    ----------
    frames
        As for fit; or a single image.
    masks
        Images that are not black where something is abnormal: a folder with one for each frame,
        called like it (NAME or NAME_mask) or else in its place; for several clips, a folder of such
        folders that are called like the clips, where those without one are normal. If not given,
        folders beside those of the frames whose names end in _gt, if there are any.
    format
        Of the scores.
    """
    from nearfar.anomaly import open_clips, read_detector
    from nearfar.anomaly.scored import ALERTS, score_clips

    detector, track = read_detector(run), bars()
    clips = open_clips(frames, size=detector.config.size)
    try:
        summary = score_clips(
            detector, clips, out, masks=masks, format=format, overwrite=overwrite, track=track
        )
    except KeyboardInterrupt as interrupt:
        kept = f"what was scored so far is in {out}"
        if not (out / ALERTS).is_file():
            kept = "nothing is scored yet"
        raise KeyboardInterrupt(f"stopped: {kept}") from interrupt
    report_skipped(summary.skipped, track.progress.console)
    print(f"{summary.frames} frames, {len(summary.alerts)} abnormal spans; all is in {out}")
    for name, value in (summary.quality or {}).items():
        print(f"{name}: {'undefined' if value is None else value}")
