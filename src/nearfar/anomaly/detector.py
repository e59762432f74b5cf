"""A detector of what is not normal: fitted to normal clips, kept in a folder, run on any stream."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import load_model, save_model
from torch import Tensor

from nearfar import artifacts
from nearfar.anomaly.clips import Clip, Frame
from nearfar.anomaly.patches import Grid, Map, gather_patches, windows
from nearfar.anomaly.scoring import (
    CodeDistance,
    Numbered,
    PlaceScale,
    ReconstructionError,
    Scorer,
    smoothed,
    thin,
)
from nearfar.anomaly.tempo import SHRINK, Tempo, TempoNet, sample, train_tempo
from nearfar.errors import NearfarError
from nearfar.fields import check_fields
from nearfar.files import atomic_path, claim_output, write_json
from nearfar.progress import Track, silent
from nearfar.training.config import TrainConfig
from nearfar.training.train import train

#: Raised by one whenever an older nearfar could not read what is written.
FORMAT = 1
CONFIG, ARRAYS, NETWORK = "detector.json", "detector.safetensors", "network"
TEMPO = "tempo.safetensors"

#: Every so many clips, one is kept from learning, to calibrate on.
CALIBRATE_EVERY = 4
#: The most normal scores that the threshold is taken from.
MOST_SCORES = 2**20

Part = Literal["reconstruction", "codes", "tempo"]


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """How to tell what is not normal.

    Parameters
    ----------
    parts : tuple of {"reconstruction", "codes", "tempo"}
        What scores a patch: its reconstruction error, as in the paper; the distance of its code to
        the nearest normal one; how much faster or larger than normal it is, see `TempoNet`. Scores
        of several are added.
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
        The most normal codes that are kept.
    size : (height, width), optional
        What frames were scaled to when they were opened, see `open_clips`; those to be scored are
        to be opened likewise.
    """

    parts: tuple[Part, ...] = ("tempo",)
    patch: int = 48
    stride: int = 12
    frames: int = 5
    by_place: bool = False
    smoothing: float = 4.0
    false_alarms: float = 0.01
    bank_size: int = 8192
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
        if len(self.parts) > 1 and not self.by_place:
            raise NearfarError(
                f"parts={self.parts}: expected by_place=True, which brings them to one scale"
            )
        if not 0 < self.false_alarms < 1:
            raise NearfarError(f"false_alarms={self.false_alarms}: expected a share, 0…1")
        if not 0 <= self.smoothing <= 1000:
            raise NearfarError(f"smoothing={self.smoothing}: expected 0…1000 frames")

    @property
    def encodes(self) -> bool:
        """Whether an autoencoder is trained."""
        return self.parts != ("tempo",)

    @classmethod
    def stills(cls, **choices: Any) -> DetectorConfig:
        """Make a setting for photographs, each on its own: distance of overlapping patches."""
        stills: dict[str, Any] = {
            "parts": ("codes",),
            "patch": 32,
            "stride": 8,
            "frames": 1,
            "smoothing": 0.0,
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


class Scored(NamedTuple):
    """A frame: its number, its score, and the heat map behind it, float32[rows, columns].

    The score is that of its worst patch.
    """

    number: int
    score: float
    heat: Map


class Detector:
    """Scores frames; see `fit_detector` and `read_detector`.

    Parameters
    ----------
    config : DetectorConfig
        How.
    grid : Grid
        Where the patches of a frame lie.
    scorers : sequence of Scorer
        One for each part.
    scale : PlaceScale, optional
        What is usual for each row of patches.
    threshold : float
        Above which score a frame is called abnormal.
    """

    def __init__(
        self,
        config: DetectorConfig,
        grid: Grid,
        scorers: Sequence[Scorer],
        scale: PlaceScale | None = None,
        threshold: float = float("inf"),
    ) -> None:
        self.config, self.grid, self.scorers = config, grid, scorers
        self.scale, self.threshold = scale, threshold

    def score(self, frames: Iterable[Frame], name: str = "the stream") -> Iterator[Scored]:
        """Score the frames of one clip as they come, in memory that does not grow.

        Parameters
        ----------
        frames : iterable of Frame
            A `Clip`, or what `as_frames` makes of a stream of arrays. With smoothing, a frame is
            scored when as many after it have come as it is averaged with.

        Raises
        ------
        NearfarError
            If the frames are of another size than the detector was fitted to, or too few.
        """
        maps = smoothed(self._maps(frames, name), self.config.smoothing)
        for number, scores in maps:
            heat = (scores if self.scale is None else self.scale(scores)).sum(0)
            yield Scored(number, float(heat.max()), heat)

    def _maps(self, frames: Iterable[Frame], name: str) -> Iterator[Numbered]:
        """Scores of all parts, float32[parts, rows, columns], of each frame."""
        last, maps = None, None
        for number, window in windows(frames, self.config.frames, name):
            if window.shape[1:] != self.grid.size:
                raise NearfarError(
                    f"{name!r} has frames of {window.shape[1]}x{window.shape[2]} pixels, and the "
                    f"detector was fitted to {self.grid.size[0]}x{self.grid.size[1]}: expected "
                    "the same camera, or a size to scale them to"
                )
            if window is not last or maps is None:
                maps = np.stack([scorer(window, self.grid) for scorer in self.scorers])
                last = window
            yield Numbered(number, maps)

    def calibrate(self, clips: Sequence[Clip], track: Track = silent) -> None:
        """Take the scale of each place, and the threshold, from normal clips."""
        if self.config.by_place:
            maps = (
                scores
                for clip in track(clips, "calibrating", len(clips))
                for _, scores in smoothed(self._maps(clip, clip.name), self.config.smoothing)
            )
            self.scale = PlaceScale.fit(maps)
        scores = thin(
            (
                np.array(scored.score)
                for clip in track(clips, "threshold", len(clips))
                for scored in self.score(clip, clip.name)
            ),
            MOST_SCORES,
        )
        self.threshold = float(np.quantile(scores, 1 - self.config.false_alarms, method="higher"))


def fit_detector(
    clips: Sequence[Clip],
    folder: Path,
    config: DetectorConfig | None = None,
    training: TrainConfig | None = None,
    *,
    overwrite: bool = False,
    track: Track = silent,
) -> Detector:
    """Fit a detector to normal clips, and keep it in a folder.

    Every fourth clip, or of fewer clips the last quarter of each, is not learned from: on these
    the scale of each place and the threshold are taken.

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

    Raises
    ------
    NearfarError
        If the clips cannot be used, or the folder is taken.
    """
    config, training = config or DetectorConfig(), training or TrainConfig()
    claim_detector(folder, overwrite=overwrite)
    learned, kept = split_clips(clips)
    size = _size_of(learned[0])
    grid = Grid(size, config.patch, config.stride)
    folder.mkdir(exist_ok=True)
    bank = None
    if config.encodes:
        images = gather_patches(
            track(learned, "cutting patches", len(learned)),
            config.patch,
            # Patches to learn from do not overlap: neighbors would say the same.
            config.patch,
            config.frames,
            name="normal patches",
            seed=training.seed,
        )
        train(images, training, folder=folder / NETWORK, track=track)
        run = artifacts.read_run(folder / NETWORK)
        rows = np.random.default_rng(training.seed).permutation(len(run.codes))
        bank = torch.from_numpy(run.codes[np.sort(rows[: config.bank_size])])
        (folder / NETWORK / artifacts.CODES).unlink()
    if "tempo" in config.parts:
        samples = sample(learned, grid, config.frames, training.seed)
        network = train_tempo(samples, training.seed, track=track)
        with atomic_path(folder / TEMPO) as temporary:
            save_model(network, str(temporary))
    detector = Detector(config, grid, _scorers(config, folder, bank))
    detector.calibrate(kept, track)
    _write(folder, detector, bank)
    return detector


def read_detector(folder: Path) -> Detector:
    """Read what `fit_detector` kept.

    Raises
    ------
    NearfarError
        If it is missing, unfinished, damaged, or of a newer format.
    """
    if not (folder / CONFIG).is_file():
        raise NearfarError(
            f"{str(folder)!r} is no detector: it has no {CONFIG}; make one with anomaly fit"
        )
    with artifacts.reading(folder, CONFIG):
        saved = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        newer = saved["format"] > FORMAT
    if newer:
        raise NearfarError(
            f"detector {str(folder)!r} has format {saved['format']}: this nearfar reads up to "
            f"{FORMAT}, so install a newer one"
        )
    with artifacts.reading(folder, CONFIG):
        config = DetectorConfig(**saved["config"])
        height, width = saved["size"]
        grid = Grid((int(height), int(width)), config.patch, config.stride)
        threshold = float(saved["threshold"])
    with (
        artifacts.reading(folder, ARRAYS),
        safe_open(folder / ARRAYS, framework="numpy") as file,
    ):
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        scale = PlaceScale(arrays["scale"]) if config.by_place else None
        bank = torch.from_numpy(arrays["bank"]) if "codes" in config.parts else None
        if scale is not None and scale.scale.shape != (len(config.parts), grid.shape[0]):
            raise NearfarError(f"a scale of shape {scale.scale.shape}")
    return Detector(config, grid, _scorers(config, folder, bank), scale, threshold)


def claim_detector(folder: Path, *, overwrite: bool) -> None:
    """Make room for a detector, taking away an earlier one if `overwrite` says so."""
    if overwrite and folder.is_dir():
        # An unfinished one as well; what is not of a detector stays, and the folder is refused.
        for name in (CONFIG, ARRAYS, TEMPO):
            (folder / name).unlink(missing_ok=True)
        if (folder / NETWORK / artifacts.CONFIG).is_file():
            shutil.rmtree(folder / NETWORK)
    claim_output(folder, overwrite=False, folder=True)


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


class _Span(Clip):
    """Some consecutive frames of a clip."""

    def __init__(self, clip: Clip, start: int, stop: int) -> None:
        super().__init__()
        self.clip, self.start, self.stop = clip, start, stop
        self.name, self.total = clip.name, stop - start

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.clip:
            if frame.number >= self.stop:
                return
            if frame.number >= self.start:
                yield frame

    def _read(self) -> Iterator[Any]:
        raise NotImplementedError


def _split(clip: Clip) -> tuple[Clip, Clip]:
    total = clip.total if clip.total is not None else sum(1 for _ in clip)
    border = total - total // CALIBRATE_EVERY
    if border == total:
        raise NearfarError(
            f"{clip.name!r} has only {total} frames: expected at least {CALIBRATE_EVERY}, of which "
            "a quarter is for calibration"
        )
    return _Span(clip, 0, border), _Span(clip, border, total)


def _size_of(clip: Clip) -> tuple[int, int]:
    (frame,) = islice(clip, 1)
    return frame.pixels.shape[0], frame.pixels.shape[1]


def _read_tempo(folder: Path, config: DetectorConfig) -> TempoNet:
    with artifacts.reading(folder, TEMPO):
        network = TempoNet(config.frames, config.patch // SHRINK)
        load_model(network, folder / TEMPO)
    return network


def _scorers(config: DetectorConfig, folder: Path, bank: Tensor | None) -> list[Scorer]:
    """Make a scorer for each part, with the network of the folder if any needs it."""
    scorers: list[Scorer] = []
    network = artifacts.read_network(folder / NETWORK) if config.encodes else None
    for part in config.parts:
        if part == "tempo":
            scorers.append(Tempo(_read_tempo(folder, config)))
        elif part == "reconstruction" and network is not None:
            scorers.append(ReconstructionError(network))
        elif network is not None and bank is not None:
            scorers.append(CodeDistance(network.encoder, bank))
    return scorers


def _write(folder: Path, detector: Detector, bank: Tensor | None) -> None:
    """Write a detector; its description comes last, so that one that has it is complete."""
    arrays = {}
    if detector.scale is not None:
        arrays["scale"] = detector.scale.scale
    if bank is not None and "codes" in detector.config.parts:
        arrays["bank"] = bank.numpy()
    with atomic_path(folder / ARRAYS) as temporary:
        save_file(arrays, temporary)
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "config": asdict(detector.config),
            "size": detector.grid.size,
            "threshold": detector.threshold,
        },
    )
