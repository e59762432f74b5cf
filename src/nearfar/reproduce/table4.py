"""Table 4: frames of UCSD Ped2 that are not normal, after learning from normal clips alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from nearfar.anomaly.clips import Clip, open_clips, read_masks
from nearfar.anomaly.config import DetectorConfig
from nearfar.anomaly.detector import Detector
from nearfar.anomaly.fitting import split_clips
from nearfar.anomaly.judging import Judge
from nearfar.anomaly.patches import Grid, gather_patches
from nearfar.anomaly.scoring import CodeDistance, ReconstructionError, Scorer
from nearfar.anomaly.tempo import EPOCHS as TEMPO_EPOCHS
from nearfar.anomaly.tempo import SAMPLES, Tempo, TempoNet, sample, train_tempo
from nearfar.data import ArrayImages
from nearfar.data.named import default_data_root
from nearfar.errors import NearfarError
from nearfar.evaluation.table import BLANK, markdown_table
from nearfar.files import atomic_path
from nearfar.models import apply_to_all
from nearfar.progress import Track, silent
from nearfar.report.figures import save_figure
from nearfar.report.figures.anomaly import clip_scores, roc_curves
from nearfar.reproduce.budget import plain, relational
from nearfar.reproduce.engine import Cell, Measured, Reproduction
from nearfar.reproduce.measuring import network_after
from nearfar.reproduce.summary import (
    cell_name,
    choose_seeds,
    machines,
    over_seeds,
    percent,
    seeds_note,
    summarize,
)
from nearfar.training.config import TrainConfig

FOLDER = Path("UCSD_Anomaly_Dataset.v1p2") / "UCSDped2"
#: Epochs in all of the networks that reconstruct.
EPOCHS, QUICK_EPOCHS = 20, 2
QUICK_CLIPS, QUICK_SAMPLES, QUICK_TEMPO_EPOCHS = 2, 2000, 1
BANK = 8192
COLUMNS = {
    "eer": "EER",
    "auc": "AUC",
    "macro_auc": "AUC a clip",
    "pixel_auc": "AUC of pixels",
    "overlap_eer": "EER, 40 % overlap",
}
#: What the paper's table holds of others, and of the rows that are measured here.
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


@dataclass(frozen=True)
class Row:
    """A way to score frames.

    Parameters
    ----------
    detector : DetectorConfig
        How patches are scored.
    training : callable, optional
        Gives the configuration of the autoencoder for so many epochs, if there is one.
    paper : float, optional
        The paper's EER.
    """

    detector: DetectorConfig
    training: Callable[..., TrainConfig] | None = None
    paper: float | None = None


def _nre(*weights: float) -> Callable[..., TrainConfig]:
    """Train on the relations with these weights."""

    def config(epochs: int, **choices: Any) -> TrainConfig:
        return relational(epochs, weights=weights, **choices)

    return config


_NEAR_ALONE = _nre(0.6, 0.4, 0.0)

ROWS = {
    "autoencoder": Row(DetectorConfig.paper(), plain),
    "NRE-0.6-0.2-0.2": Row(DetectorConfig.paper(), _nre(0.6, 0.2, 0.2), 0.175),
    "NRE-0.6-0.4-0": Row(DetectorConfig.paper(), _NEAR_ALONE, 0.14),
    "codes": Row(DetectorConfig.paper(parts=("codes",)), _NEAR_ALONE),
    "tempo-unsmoothed": Row(DetectorConfig(smoothing=0)),
    "tempo": Row(DetectorConfig()),
}


def table4(
    out: Path,
    *,
    data_root: Path | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    rows: Sequence[str] = (),
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Fit every row to normal clips, judge it on the test clips, and write table and figures.

    Parameters
    ----------
    out : Path
        The folder to write to, or to continue in.
    epochs : int, optional
        Epochs in all of the networks that reconstruct; 20 if not given, 2 if quick.
    seeds : int, optional
        How many trainings of each row; 3 if not given, 2 if quick.
    rows : sequence of str
        Some of `ROWS`; all if none are given.
    quick : bool
        Whether to take two clips of each kind, and to learn for a moment.

    Returns
    -------
    str
        The table as Markdown.

    Raises
    ------
    NearfarError
        If a row is unknown, the data are not there, or the folder was begun with other choices.
    """
    for row in rows:
        if row not in ROWS:
            raise NearfarError(f"row {row!r} is unknown: expected some of {', '.join(ROWS)}")
    chosen = [name for name in ROWS if name in rows or not rows]
    numbers = choose_seeds(seeds, quick=quick)
    total = epochs or (QUICK_EPOCHS if quick else EPOCHS)
    normal, test = _clips(data_root, quick=quick)
    # Tempo leaves some clips to calibrate on, as it does for a user; the paper learns from all.
    learned, _ = split_clips(normal)
    settings = {
        "quick": quick,
        "epochs": total,
        "normal": [[clip.name, clip.total] for clip in normal],
        "test": [[clip.name, clip.total] for clip in test],
    }
    reproduction = Reproduction(out, "table4", settings, track=track)

    @cache
    def patches(config: DetectorConfig) -> ArrayImages:
        return gather_patches(
            track(normal, "cutting patches", len(normal)),
            config.patch,
            config.stride,
            config.frames,
            name="normal patches of UCSD Ped2",
        )

    @cache
    def tempo(config: DetectorConfig, grid: Grid, seed: int) -> TempoNet:
        samples = sample(learned, grid, config.frames, seed, QUICK_SAMPLES if quick else SAMPLES)
        return train_tempo(
            samples, seed, QUICK_TEMPO_EPOCHS if quick else TEMPO_EPOCHS, track=track
        )

    def scorer(row: Row, grid: Grid, seed: int) -> Scorer:
        if row.training is None:
            return Tempo(tempo(replace(row.detector, smoothing=0), grid, seed))
        config = row.training(total, seed=seed, device="cpu")
        images = patches(replace(row.detector, parts=("reconstruction",)))
        same = next(name for name in ROWS if ROWS[name].training is row.training)
        run = reproduction.train(cell_name(same, seed), images, config, [total])
        network = network_after(run, total).cpu()
        if row.detector.parts == ("reconstruction",):
            return ReconstructionError(network)
        drawn = np.random.default_rng(seed).permutation(len(images))[:BANK]
        some = ArrayImages(images.__getitems__(torch.from_numpy(np.sort(drawn))))
        cpu = torch.device("cpu")
        return CodeDistance(network.encoder, apply_to_all(network.encoder, some, device=cpu))

    def cell(name: str, seed: int) -> Cell:
        row = ROWS[name]
        settings = {"row": name, "seed": seed, "detector": asdict(row.detector)}
        if row.training is not None:
            settings["training"] = asdict(row.training(total, seed=seed, device="cpu"))

        def measure() -> dict[str, Any]:
            height, width = next(iter(test[0])).pixels.shape
            grid = Grid((height, width), row.detector.patch, row.detector.stride)
            detector = Detector(row.detector, grid, [scorer(row, grid, seed)])
            return judge(detector, test, track)

        return Cell(cell_name(name, seed), settings, measure)

    measured = reproduction.measure([cell(*one) for one in product(chosen, numbers)])
    return _write(reproduction, measured, chosen, numbers)


def judge(detector: Detector, clips: Sequence[Clip], track: Track = silent) -> dict[str, Any]:
    """Score clips whose masks are known: all measures, and the scores themselves."""
    judged = Judge()
    for clip in track(clips, "scoring", len(clips)):
        masks = read_masks(clip)
        if masks is None:
            raise NearfarError(f"{clip.name!r} has no masks: expected a folder {clip.name}_gt")
        for number, score, heat in detector.score(clip, clip.name):
            judged.add(clip.name, score, detector.grid.spread(heat), masks[number])
    scores = {
        name: {"abnormal": labels.tolist(), "scores": scores.tolist()}
        for name, (labels, scores) in judged.clips.items()
    }
    return {**judged.result(), "clips": scores}


def _clips(data_root: Path | None, *, quick: bool) -> tuple[list[Clip], list[Clip]]:
    folder = (data_root or default_data_root()) / FOLDER
    if not folder.is_dir():
        raise NearfarError(
            f"{str(folder)!r} does not exist: put UCSD Ped2 there, or give --data-root"
        )
    most = QUICK_CLIPS if quick else None
    return open_clips(folder / "Train")[:most], open_clips(folder / "Test")[:most]


def _write(
    reproduction: Reproduction,
    measured: Mapping[str, Measured],
    rows: Sequence[str],
    seeds: Sequence[int],
) -> str:
    """Write the table in its forms, and the figures; return it as Markdown."""

    def values(row: str, key: str) -> list[float] | None:
        found = over_seeds(measured, row, key, seeds)
        return None if any(value is None for value in found) else found

    summary: dict[str, Any] = {}
    lines = []
    for row in rows:
        shown = {key: values(row, key) for key in COLUMNS}
        papers = {"eer": ROWS[row].paper}
        summary[row] = {
            key: None if found is None else summarize(found, papers.get(key))
            for key, found in shown.items()
        }
        cells = [
            BLANK if found is None else percent(found, papers.get(key))
            for key, found in shown.items()
        ]
        lines.append([row, *cells])
    results = {row: measured[cell_name(row, 0)]["result"] for row in rows}
    undefined = results[rows[0]]["macro_undefined"]
    published = ", ".join(f"{name} {100 * eer:g}" for name, eer in PUBLISHED.items())
    frames, abnormal = results[rows[0]]["frames"], results[rows[0]]["abnormal"]
    notes = [
        f"In %, {seeds_note(seeds)}; in parentheses, the paper's. {frames:,} test frames of UCSD "
        f"Ped2, {abnormal:,} of them abnormal; all frames are judged together.",
        "AUC a clip: mean over the clips where it is defined; undefined, as all frames are of one "
        f"kind: {', '.join(undefined) or 'nowhere'}.",
        f"EER in the paper's table: {published}.",
        f"The rows with an autoencoder: {reproduction.settings['epochs']} epochs in all. On "
        f"{machines(measured)}.",
    ]
    text = markdown_table(["", *COLUMNS.values()], lines, notes)
    curves = {
        row: roc_curve(*_pooled(result["clips"]), drop_intermediate=True)[:2]
        for row, result in results.items()
    }
    reproduction.write(measured, summary, text, roc_curves(curves))
    best = rows[-1]
    _save(reproduction.folder / f"clips-{best}.png", clip_scores(results[best]["clips"]))
    return text


def _pooled(clips: Mapping[str, Any]) -> tuple[Any, Any]:
    labels = np.concatenate([clip["abnormal"] for clip in clips.values()])
    return labels, np.concatenate([clip["scores"] for clip in clips.values()])


def _save(path: Path, figure: Figure) -> None:
    with atomic_path(path) as temporary:
        save_figure(figure, temporary)
