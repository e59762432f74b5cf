"""Table 4: frames of UCSD Ped2 that are not normal, after learning from normal clips alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from nearfar.anomaly.clips import Clip, open_clips
from nearfar.anomaly.detector import Detector
from nearfar.anomaly.fitting import CALIBRATE_EVERY, split_clips
from nearfar.anomaly.judging import Judge
from nearfar.anomaly.masks import find_masks
from nearfar.anomaly.samples import SAMPLES
from nearfar.anomaly.tempo import EPOCHS as TEMPO_EPOCHS
from nearfar.data import Images, Subset, default_data_root
from nearfar.errors import NearfarError
from nearfar.evaluation import BLANK
from nearfar.experiments import caltech101
from nearfar.experiments.detectors import ABLATION, NETWORKS, ROWS, Budget, Detectors, Row, describe
from nearfar.experiments.runner import Cell, Measured, Reproduction, fingerprint
from nearfar.experiments.statistics import (
    cell_name,
    choose_rows,
    choose_seeds,
    machines,
    over_seeds,
    percent,
    seeds_note,
    summarize,
)
from nearfar.experiments.synthetic_clips import STAGING, StagedClip, stage
from nearfar.progress import Track, silent
from nearfar.report import markdown_table
from nearfar.report.figures import clip_scores, roc_curves

FOLDER = Path("UCSD_Anomaly_Dataset.v1p2") / "UCSDped2"
WHOLE = Budget(epochs=20, samples=SAMPLES, tempo_epochs=TEMPO_EPOCHS)
QUICK, QUICK_CLIPS = Budget(epochs=2, samples=2000, tempo_epochs=1), 2
#: How often each held-out clip is staged for validation, with another thing each time.
ROUNDS, QUICK_ROUNDS = 6, 1
#: How many seeds it takes until each normal clip was held out for validation once.
FOLDS = CALIBRATE_EVERY
COLUMNS = {
    "eer": "EER",
    "auc": "AUC",
    "macro_auc": "AUC a clip",
    "macro_eer": "EER a clip",
    "pixel_auc": "AUC of pixels",
    "overlap_eer": "EER, 40 % overlap",
}
#: Whose scores are drawn over time: the first of these that is there, or else the last row.
DRAWN = ("tempo-appearance", "tempo")
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


@dataclass(frozen=True, eq=False)
class Split:
    """Normal clips to learn from, clips to judge, and what only the clips of some seeds have."""

    normal: Sequence[Clip]
    test: Sequence[Clip]
    settings: dict[str, Any] = field(default_factory=dict)


def table4(
    out: Path,
    *,
    data_root: Path | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    rows: Sequence[str] = (),
    ablation: bool = False,
    validation: bool = False,
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Fit every row to normal clips, judge it on the test clips, and write table and figures.

    Parameters
    ----------
    out : Path
        The folder to write to, or to continue in.
    epochs : int, optional
        Epochs in all of the convolutional networks; 20 if not given, 2 if quick.
    seeds : int, optional
        How many trainings of each row; if not given, 3, `FOLDS` for validation, 2 if quick.
    rows : sequence of str
        Some of `ROWS`, or of `ABLATION`; all if none are given.
    ablation : bool
        Whether to measure what becomes of tempo if one thing is different, instead of the table.
    validation : bool
        Whether to judge on normal clips that were held out, other ones for each seed, staged with
        photographs of Caltech-101, and to leave the test clips alone.
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
    known = ABLATION if ablation else ROWS
    chosen = {name: known[name] for name in choose_rows(rows, known)}
    if validation:  # of which the paper has none
        chosen = {name: replace(row, paper=None) for name, row in chosen.items()}
    if validation and not quick and seeds is None:
        seeds = FOLDS
    numbers = choose_seeds(seeds, quick=quick)
    budget = replace(QUICK if quick else WHOLE, **({} if epochs is None else {"epochs": epochs}))
    root = data_root or default_data_root()
    normal = _clips(root, "Train", quick)
    if validation:
        things = caltech101.of_classes(
            caltech101.CLASSES, root, quick=quick, channels=1, track=track
        )
        rounds = QUICK_ROUNDS if quick else ROUNDS
        splits = {seed: staged_split(normal, things, rounds, seed % FOLDS) for seed in numbers}
        judged: dict[str, Any] = {"things": {**fingerprint(things), **STAGING}}
    else:
        test = _clips(root, "Test", quick)
        splits = dict.fromkeys(numbers, Split(normal, test))
        judged = {"test": _totals(test)}
    settings = {"quick": quick, **asdict(budget), "normal": _totals(normal), **judged}
    name = "-".join(["table4", *["ablation"] * ablation, *["validation"] * validation])
    reproduction = Reproduction(out, name, settings, track=track)

    @lru_cache(maxsize=1)  # what was cut from the clips of one split is of no use to the next
    def detectors(split: Split) -> Detectors:
        return Detectors(reproduction, split.normal, budget)

    def cell(name: str, seed: int) -> Cell:
        row, split = chosen[name], splits[seed]

        def measure() -> dict[str, Any]:
            return judge(detectors(split).make(row, seed), split.test, track)

        return Cell(
            cell_name(name, seed),
            {"row": name, "seed": seed, **describe(row, seed, budget), **split.settings},
            measure,
            row.run_name(seed) if row.network in NETWORKS else None,
        )

    seeds_of = {
        name: numbers if row.seeded or validation else numbers[:1] for name, row in chosen.items()
    }
    # Seed after seed, so that a table of fewer seeds is whole when it is interrupted.
    cells = [cell(name, seed) for seed, name in product(numbers, chosen) if seed in seeds_of[name]]
    published = {} if ablation or validation else PUBLISHED
    return _write(reproduction, reproduction.measure(cells), chosen, seeds_of, published)


def judge(detector: Detector, clips: Sequence[Clip], track: Track = silent) -> dict[str, Any]:
    """Score clips whose masks are known: all measures, and the scores themselves."""
    judged = Judge()
    known = find_masks(clips)
    for clip, found in zip(track(clips, "scoring", len(clips)), known, strict=True):
        masks = clip if isinstance(clip, StagedClip) else found
        if masks is None:
            raise NearfarError(f"{clip.name!r} has no masks: expected a folder {clip.name}_gt")
        for number, score, patches in detector.score(clip, clip.name):
            heat = detector.grid.spread(patches)
            judged.add(clip.name, score, heat, masks.of(number, clip.name, heat.shape))
    scores = {
        name: {
            "abnormal": labels.astype(int).tolist(),
            "scores": [float(f"{score:.5g}") for score in scores],
        }
        for name, (labels, scores) in judged.clips.items()
    }
    return {**judged.result(), "clips": scores}


def _clips(root: Path, part: str, quick: bool) -> list[Clip]:
    """Open the clips of "Train", which are normal, or of "Test"."""
    folder = root / FOLDER
    if not folder.is_dir():
        raise NearfarError(
            f"{str(folder)!r} does not exist: put UCSD Ped2 there, or give --data-root"
        )
    return open_clips(folder / part)[: QUICK_CLIPS if quick else None]


def _totals(clips: Sequence[Clip]) -> list[Any]:
    return [[clip.name, clip.total] for clip in clips]


def staged_split(normal: Sequence[Clip], things: Images, rounds: int, fold: int) -> Split:
    """Hold out every fourth clip, beginning with another one in each fold, and stage these."""
    learned, held_out = split_clips([*normal[fold:], *normal[:fold]])
    count = rounds * len(held_out)
    drawn = np.random.default_rng(0).permutation(len(things))[fold * count :][:count]
    staged = stage(held_out, Subset(things, drawn), rounds, fold)
    moving = {
        clip.name: {"height": clip.thing.height, "width": clip.thing.width, **asdict(clip.way)}
        for clip in staged
    }
    return Split(learned, staged, {"moving": moving})


def _write(
    reproduction: Reproduction,
    measured: Mapping[str, Measured],
    rows: Mapping[str, Row],
    seeds: Mapping[str, Sequence[int]],
    published: Mapping[str, float],
) -> str:
    """Write the table in its forms, and the figures; return it as Markdown."""

    def values(row: str, key: str) -> list[float] | None:
        found = over_seeds(measured, row, key, seeds[row])
        return None if any(value is None for value in found) else found

    summary: dict[str, Any] = {}
    lines = []
    for name, row in rows.items():
        shown = {key: values(name, key) for key in COLUMNS}
        papers = {"eer": row.paper}
        summary[name] = {
            key: None if found is None else summarize(found, papers.get(key))
            for key, found in shown.items()
        }
        cells = [
            BLANK if found is None else percent(found, papers.get(key))
            for key, found in shown.items()
        ]
        lines.append([name, *cells])
    results = {row: measured[cell_name(row, 0)]["result"] for row in rows}
    first = next(iter(rows))
    best = next((row for row in DRAWN if row in rows), list(rows)[-1])
    undefined = results[first]["macro_undefined"]
    lines += [
        [f"{name}, published", f"({100 * eer:.1f})", *[BLANK] * (len(COLUMNS) - 1)]
        for name, eer in published.items()
    ]
    validation = "things" in reproduction.settings
    most = max(seeds.values(), key=len)
    counted = seeds[first] if validation else seeds[first][:1]  # the same clips for all seeds
    frames, abnormal = (
        sum(over_seeds(measured, first, key, counted)) for key in ("frames", "abnormal")
    )
    judged = (
        f", each with other clips held out. {frames:,} frames of normal clips of UCSD Ped2, "
        f"photographs moving through {abnormal:,} of them"
        if validation
        else f"; in parentheses, the paper's. {frames:,} test frames of UCSD Ped2, {abnormal:,} of "
        "them abnormal"
    )
    notes = [
        f"In %, {seeds_note(most)}{judged}; all frames are judged together.",
        "AUC and EER a clip: mean over the clips where they are defined; undefined, as all frames "
        f"are of one kind: {', '.join(undefined) or 'nowhere'}.",
        *(["Published: as the paper's table has it."] if published else []),
        f"Convolutional networks: {reproduction.settings['epochs']} epochs in all. On "
        f"{machines(measured)}.",
    ]
    text = markdown_table(["", *COLUMNS.values()], lines, notes)
    curves = {
        row: roc_curve(*_pooled(result["clips"]), drop_intermediate=True)[:2]
        for row, result in results.items()
    }
    reproduction.write(measured, summary, text, roc_curves(curves))
    reproduction.draw(f"clips-{best}", clip_scores(results[best]["clips"]))
    return text


def _pooled(clips: Mapping[str, Any]) -> tuple[Any, Any]:
    labels = np.concatenate([clip["abnormal"] for clip in clips.values()])
    return labels, np.concatenate([clip["scores"] for clip in clips.values()])
