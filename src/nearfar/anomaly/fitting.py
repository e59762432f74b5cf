"""Fitting a detector to normal clips; what was interrupted goes on from its last checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nearfar import runs
from nearfar.anomaly.appearance import fit_appearance
from nearfar.anomaly.clips import Clip, Span
from nearfar.anomaly.config import DetectorConfig
from nearfar.anomaly.detector import Detector, check_same_rate
from nearfar.anomaly.folder import (
    APPEARANCE,
    NETWORK,
    TEMPO,
    begin,
    read_scorers,
    write_appearance,
    write_detector,
    write_tempo,
)
from nearfar.anomaly.patches import Grid, Places, gather_patches
from nearfar.anomaly.samples import sample
from nearfar.anomaly.tempo import train_tempo
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.training.config import TrainConfig
from nearfar.training.train import train

#: Every so many clips, one is kept from learning, to calibrate on.
CALIBRATE_EVERY = 4


def fit_detector(
    clips: Sequence[Clip],
    folder: Path,
    config: DetectorConfig | None = None,
    training: TrainConfig | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> Detector:
    """Fit a detector to normal clips, and keep it in a folder.

    Every fourth clip, or of fewer clips the last quarter of each, is not learned from: on these
    the scale of scores and the threshold are taken.

    Parameters
    ----------
    clips : sequence of Clip
        Of one camera, with nothing abnormal in them.
    folder : Path
        Where the detector is kept.
    config : DetectorConfig, optional
        How to tell what is not normal.
    training : TrainConfig, optional
        How the network is trained, if the parts need one.
    resume : bool
        Continue what was interrupted in `folder`, with the same choices and clips.
    overwrite : bool
        Replace a detector that is in `folder`.

    Raises
    ------
    NearfarError
        If the clips cannot be used, or the folder is taken.
    """
    config, training = config or DetectorConfig(), training or TrainConfig()
    learned, kept = split_clips(clips)
    grid = Grid(_size_of(learned[0]), config.patch, config.stride)
    choices = {
        "config": asdict(config),
        "training": asdict(training),
        "clips": [[clip.name, clip.declared, clip.rate, grid.size] for clip in clips],
    }
    rate = next((clip.rate for clip in clips if clip.rate), None)
    _check(clips, [*learned, *kept], grid, config, rate)
    begin(folder, choices, resume=resume, overwrite=overwrite)
    bank = None
    if config.encodes:
        bank = _train_network(learned, folder / NETWORK, config, training, track)
    if "tempo" in config.parts and not (folder / TEMPO).is_file():
        _train_tempo(learned, grid, folder, config, training, track)
    if "appearance" in config.parts and not (folder / APPEARANCE).is_file():
        write_appearance(folder, fit_appearance(learned, grid, training.seed, track=track))
    detector = Detector(config, grid, read_scorers(folder, config, bank), rate=rate)
    detector.calibrate(kept, track)
    write_detector(folder, detector, bank)
    return detector


def split_clips(clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Split normal clips into those to learn from and those to calibrate on.

    Every fourth clip is for calibration; of fewer than four clips, the last quarter of each.
    """
    if not clips:
        raise NearfarError("there are no clips: expected normal ones to learn from")
    kept = list(clips[CALIBRATE_EVERY - 1 :: CALIBRATE_EVERY])
    if kept:
        return [clip for clip in clips if clip not in kept], kept
    parts = [_split(clip) for clip in clips]
    return [first for first, _ in parts], [second for _, second in parts]


def choose_rows(count: int, most: int, seed: int) -> Places:
    """Choose at most so many of the rows of a bank, int64[n], at random and in their order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _split(clip: Clip) -> tuple[Clip, Clip]:
    # Of a video only reading tells, and damaged frames leave gaps in the numbers.
    numbers = range(clip.total) if clip.total is not None else [frame.number for frame in clip]
    total = len(numbers)
    if total < CALIBRATE_EVERY:
        raise NearfarError(
            f"{clip.name!r} has only {total} frames: expected at least {CALIBRATE_EVERY}, of which "
            "a quarter is for calibration"
        )
    border, end = numbers[-(total // CALIBRATE_EVERY)], numbers[-1] + 1
    return Span(clip, 0, border), Span(clip, border, end)


def _size_of(clip: Clip) -> tuple[int, int]:
    frame = next(iter(clip), None)
    if frame is None:
        raise NearfarError(f"{clip.name!r} holds no readable frame to learn from")
    return frame.pixels.shape[0], frame.pixels.shape[1]


def _check(
    clips: Sequence[Clip],
    parts: Sequence[Clip],
    grid: Grid,
    config: DetectorConfig,
    rate: float | None,
) -> None:
    """Refuse, before anything is trained, clips of several cameras and parts that are too short."""
    for clip in clips:
        grid.check(_size_of(clip), clip.name)
        if config.frames > 1:
            check_same_rate(clip, rate)
    for part in parts:
        if part.total is not None and part.total < config.frames:
            raise NearfarError(
                f"a part of {part.name!r} has {part.total} frames, fewer than the {config.frames} "
                "that are looked at together: expected longer clips, of which every fourth, or of "
                "fewer than four the last quarter of each, is for the threshold"
            )


def _train_tempo(
    clips: Sequence[Clip],
    grid: Grid,
    folder: Path,
    config: DetectorConfig,
    training: TrainConfig,
    track: Track,
) -> None:
    """Train a `TempoNet` on some clips, or what is left of it."""
    samples = sample(clips, grid, config.frames, training.seed)
    write_tempo(folder, train_tempo(samples, training.seed, folder=folder, track=track))
    runs.remove_checkpoint(folder)


def _train_network(
    clips: Sequence[Clip],
    folder: Path,
    config: DetectorConfig,
    training: TrainConfig,
    track: Track,
) -> Tensor:
    """Train an autoencoder on the patches of some clips, or what is left of it; return the bank."""
    if not runs.is_finished(folder):
        images = gather_patches(
            track(clips, "cutting patches", len(clips)),
            config.patch,
            # Patches to learn from do not overlap: neighbors would say the same.
            config.patch,
            config.frames,
            name="normal patches",
            seed=training.seed,
        )
        resume = (folder / runs.CHECKPOINT).is_file()
        train(images, training, folder=folder, resume=resume, overwrite=not resume, track=track)
    embeddings = runs.read_run(folder).embeddings
    return torch.from_numpy(
        embeddings[choose_rows(len(embeddings), config.bank_size, training.seed)]
    )
