"""Table 4: anomaly detection on UCSD Ped2. Detectors are trained on normal clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from nearfar.anomaly import (
    CALIBRATE_EVERY,
    Clip,
    Detector,
    Evaluator,
    find_masks,
    split_clips,
)
from nearfar.anomaly.methods.motion import MotionTraining
from nearfar.data import Images, Subset, default_data_root
from nearfar.errors import NearfarError
from nearfar.experiments import caltech101
from nearfar.experiments.cells import Column, Key, Results
from nearfar.experiments.detectors import (
    ABLATION_ROWS,
    ALOCC_ROWS,
    ROWS,
    DetectorRow,
    Detectors,
    DetectorTraining,
    PatchNetwork,
)
from nearfar.experiments.ped2 import CroppedClip, Reading
from nearfar.experiments.rows import Row
from nearfar.experiments.runner import Runner, fingerprint
from nearfar.experiments.statistics import seeds_note
from nearfar.experiments.synthetic_clips import STAGING, StagedClip, stage
from nearfar.experiments.table import Table
from nearfar.progress import Track, silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Number of seeds after which each normal clip has been held out for validation once.
FOLDS = CALIBRATE_EVERY
COLUMNS = (
    Column("eer", "EER"),
    Column("auc", "AUC"),
    Column("macro_auc", "AUC a clip"),
    Column("minmax_auc", "AUC, min–max"),
    Column("macro_eer", "EER a clip"),
    Column("pixel_auc", "AUC of pixels"),
    Column("overlap_eer", "EER, 40 % overlap"),
)
#: Rows whose scores are drawn over time: the first one in the table, or else the last row.
DRAWN = ("tempo-appearance", "tempo")
#: EERs of other methods in the paper's table.
PUBLISHED = {
    "IBC": 0.13,
    "MPCCA": 0.30,
    "MDT": 0.24,
    "Bertini et al.": 0.30,
    "Deep-Anomaly": 0.135,
    "Li et al.": 0.185,
    "AVID": 0.14,
    "RE": 0.15,
    "Ravanbakhsh et al. [45]": 0.13,
    "Ravanbakhsh et al. [44]": 0.14,
    "Dan Xu et al.": 0.17,
    "Sabokrou et al.": 0.19,
    "Deep-cascade": 0.09,
    "ALOCC": 0.13,
}


@dataclass(frozen=True, eq=False)
class ClipSplit:
    """Normal clips for training, clips for testing, and settings that identify both."""

    normal: Sequence[Clip]
    test: Sequence[Clip]
    settings: dict[str, Any] = field(default_factory=dict)


class DetectorData:
    """Clips for each seed, and detectors fitted to these clips.

    Parameters
    ----------
    runner : Runner
        Runner that trains the networks.
    training : DetectorTraining
        Length of the training runs.
    reading : Reading
        Choice of the normal patches on which autoencoders are trained.
    splits : mapping of int to ClipSplit
        Clips by seed.
    settings : mapping
        Settings that identify the clips, as JSON types.
    """

    def __init__(
        self,
        runner: Runner,
        training: DetectorTraining,
        reading: Reading,
        splits: Mapping[int, ClipSplit],
        settings: Mapping[str, Any],
    ) -> None:
        self.splits, self.settings = splits, settings

        @lru_cache(maxsize=1)  # patches of one split are not used for the next
        def detectors(split: ClipSplit) -> Detectors:
            return Detectors(runner, split.normal, training, reading)

        self.detectors = detectors


@dataclass(frozen=True, kw_only=True)
class DetectorTable(Table[DetectorRow, DetectorData]):
    """Table of detectors of abnormal frames.

    In labels and names, "tempo" stands for the motion method, see `nearfar.anomaly.Motion`.

    Parameters
    ----------
    epochs : int
        Total number of epochs of convolutional networks.
    samples, tempo_epochs : int
        Number of training samples and number of epochs of tempo.
    reading : Reading
        Part of the frames that is read, and choice of the normal patches on which autoencoders are
        trained.
    clips : int, optional
        Number of training clips and of test clips. Default: all.
    validation : bool
        Whether to test on held-out normal clips through which photographs from Caltech-101 move.
        Each seed holds out different clips. The test clips of the data set are not read.
    rounds : int
        Number of photographs per held-out clip.
    published : mapping of str to float
        Published equal error rates (EER) of other methods, by name.
    """

    row_type: ClassVar[type] = DetectorRow

    epochs: int
    samples: int = MotionTraining.samples
    tempo_epochs: int = MotionTraining.epochs
    reading: Reading = field(default_factory=Reading)
    clips: int | None = None
    validation: bool = False
    rounds: int = 6
    published: Mapping[str, float] = field(default_factory=dict)

    def validated(self) -> Self:
        """Return the table with `validation`, without the numbers from the paper."""
        return replace(
            self,
            name=f"{self.name}-validation",
            rows={name: replace(row, paper={}) for name, row in self.rows.items()},
            validation=True,
            seeds=FOLDS,
            published={},
        )

    @property
    def _training(self) -> DetectorTraining:
        return DetectorTraining(
            epochs=self.epochs, samples=self.samples, tempo_epochs=self.tempo_epochs
        )

    def open(self, runner: Runner) -> DetectorData:
        """See `Table.open`."""
        root = runner.data_root or default_data_root()
        normal = self._clips(root, "Train")
        if self.validation:
            objects = caltech101.of_classes(
                caltech101.CLASSES, root, quick=runner.quick, channels=1, track=runner.track
            )
            splits = {
                seed: staged_split(normal, objects, self.rounds, seed % FOLDS)
                for seed in range(self.seeds)
            }
            tested: dict[str, Any] = {"things": {**fingerprint(objects), **STAGING}}
        else:
            test = self._clips(root, "Test")
            splits = dict.fromkeys(range(self.seeds), ClipSplit(normal, test))
            tested = {"test": _totals(test)}
        settings = {**asdict(self._training), "normal": _totals(normal), **tested}
        if self.reading != Reading():
            settings["reading"] = asdict(self.reading)
        return DetectorData(runner, self._training, self.reading, splits, settings)

    def columns(self, data: DetectorData) -> Sequence[Column]:
        """See `Table.columns`."""
        return COLUMNS

    def seeds_of(self, data: DetectorData, row: str) -> range:
        """See `Table.seeds_of`."""
        return range(self.seeds if self.rows[row].seeded or self.validation else 1)

    def describe(self, runner: Runner, data: DetectorData, key: Key) -> dict[str, Any]:
        """See `Table.describe`."""
        described = self._training.describe(self.rows[key.row], key.seed)
        return {**described, **data.splits[key.seed].settings}

    def training(self, key: Key) -> str | None:
        """See `Table.training`."""
        row = self.rows[key.row]
        return row.run(row.network, key.seed) if isinstance(row.network, PatchNetwork) else None

    def measure(self, runner: Runner, data: DetectorData, key: Key) -> Mapping[str, Any]:
        """See `Table.measure`."""
        split = data.splits[key.seed]
        detector = data.detectors(split).make(self.rows[key.row], key.seed)
        return score_clips(detector, split.test, runner.track)

    def notes(self, runner: Runner, data: DetectorData, results: Results) -> list[str]:
        """See `Table.notes`."""
        first = next(iter(self.rows))
        # The same clips for all seeds, other than for validation.
        frames, abnormal = (
            sum(results.values(first, key)[: None if self.validation else 1])
            for key in ("frames", "abnormal")
        )
        undefined = results.values(first, "macro_undefined")[0]
        tested = (
            f", each with other clips held out. {frames:,} frames of normal clips of UCSD Ped2, "
            f"photographs moving through {abnormal:,} of them"
            if self.validation
            else f"; in parentheses, the paper's. {frames:,} test frames of UCSD Ped2, "
            f"{abnormal:,} of them abnormal"
        )
        return [
            f"In %, {seeds_note(results.seeds)}{tested}; all frames are judged together.",
            "AUC and EER a clip: mean over the clips where they are defined; undefined, as all "
            f"frames are of one kind: {', '.join(undefined) or 'nowhere'}.",
            "AUC, min–max: all frames together, after the scores of each clip are scaled to 0…1.",
            *(["Published: as the paper's table has it."] if self.published else []),
            f"Convolutional networks: {self.epochs} epochs in all. On {results.machines}.",
        ]

    def lines(
        self, columns: Sequence[Column], results: Results, extra: Mapping[str, Any] | None = None
    ) -> list[list[str]]:
        """See `Table.lines`. Published results of other methods come last."""
        published = {
            f"{name}, published": Row(paper={"eer": eer}) for name, eer in self.published.items()
        }
        return super().lines(columns, results, published)

    def figures(self, runner: Runner, data: DetectorData, results: Results) -> dict[str, Figure]:
        """Return two figures for seed 0: ROC curves of the frames, and scores over time."""
        from sklearn.metrics import roc_curve

        from nearfar.report.figures import clip_scores, roc_curves

        clips: dict[str, Any] = {row: results.values(row, "clips")[0] for row in self.rows}
        curves = {
            row: roc_curve(*_pooled(each), drop_intermediate=True)[:2]
            for row, each in clips.items()
        }
        drawn = next((row for row in DRAWN if row in self.rows), list(self.rows)[-1])
        return {self.name: roc_curves(curves), f"clips-{drawn}": clip_scores(clips[drawn])}

    def _clips(self, root: Path, part: str) -> list[Clip]:
        """Return the clips in a part of the data set: "Train" (normal clips) or "Test"."""
        return self.reading.open(root, part)[: self.clips]


def score_clips(detector: Detector, clips: Sequence[Clip], track: Track = silent) -> dict[str, Any]:
    """Return the metrics of a detector on clips with masks, and the scores of all frames."""
    judged = Evaluator()
    known = find_masks(clips)
    for clip, found in zip(track(clips, "scoring", len(clips)), known, strict=True):
        masks = clip if isinstance(clip, StagedClip | CroppedClip) else found
        if masks is None:
            raise NearfarError(f"{clip.name!r} has no masks: expected a folder {clip.name}_gt")
        for number, score, patches in detector.score(clip, clip.name):
            heat = detector.upsample(patches)
            judged.add(clip.name, score, heat, masks.mask(number, clip.name, heat.shape))
    scores = {
        name: {
            "abnormal": labels.astype(int).tolist(),
            "scores": [float(f"{score:.5g}") for score in scores],
        }
        for name, (labels, scores) in judged.clips.items()
    }
    return {**judged.result(), "clips": scores}


def _totals(clips: Sequence[Clip]) -> list[Any]:
    return [[clip.name, clip.total] for clip in clips]


def staged_split(normal: Sequence[Clip], objects: Images, rounds: int, fold: int) -> ClipSplit:
    """Return a split of normal clips for validation.

    Every fourth clip is held out, and photographs move through the held-out clips. Each fold holds
    out different clips.
    """
    learned, held_out = split_clips([*normal[fold:], *normal[:fold]])
    count = rounds * len(held_out)
    drawn = np.random.default_rng(0).permutation(len(objects))[fold * count :][:count]
    staged = stage(held_out, Subset(objects, drawn), rounds, fold)
    moving = {
        clip.name: {
            "height": clip.picture.height,
            "width": clip.picture.width,
            **asdict(clip.trajectory),
        }
        for clip in staged
    }
    return ClipSplit(learned, staged, {"moving": moving})


def _pooled(clips: Mapping[str, Any]) -> tuple[Any, Any]:
    labels = np.concatenate([clip["abnormal"] for clip in clips.values()])
    return labels, np.concatenate([clip["scores"] for clip in clips.values()])


TABLE4 = DetectorTable(
    name="table4",
    rows=ROWS,
    epochs=20,
    published=PUBLISHED,
    quick={"epochs": 2, "samples": 2000, "tempo_epochs": 1, "clips": 2, "rounds": 1},
)
#: Ablation of tempo: one setting is changed at a time.
TABLE4_ABLATION = replace(TABLE4, name="table4-ablation", rows=ABLATION_ROWS, published={})
#: As the authors' earlier code reads Ped2: the middle of frames, few of them, and its own network.
TABLE4_ALOCC = replace(
    TABLE4,
    name="table4-alocc",
    rows=ALOCC_ROWS,
    epochs=10,
    reading=Reading(rows=(100, 240), frames=600, stride=25),
    published={},
)
