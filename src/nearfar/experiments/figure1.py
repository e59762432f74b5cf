"""Figure 1: embeddings of five Caltech-101 classes by the plain autoencoder and NRE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path

from torch import nn

from nearfar.data import require_labels
from nearfar.evaluation import BLANK, scores
from nearfar.experiments import caltech101
from nearfar.experiments.configs import plain, relational
from nearfar.experiments.metrics import Classifiers, encode, network_after, task_on
from nearfar.experiments.runner import Cell, Reproduction, fingerprint
from nearfar.experiments.statistics import (
    PIXELS,
    cell_name,
    choose_seeds,
    machines,
    over_seeds,
    percent,
    seeds_note,
    summarize,
)
from nearfar.progress import Track, silent
from nearfar.report import markdown_table
from nearfar.report.figures import embedding_maps
from nearfar.training.config import TrainConfig

#: The paper does not name its five classes; these have the most images.
CLASSES = ("Faces_easy", "Leopards", "Motorbikes", "airplanes", "watch")

ROWS: dict[str, Callable[..., TrainConfig]] = {"autoencoder": plain, "NRE": relational}
PAPER = {"autoencoder": 0.922, "NRE": 0.975}
COLUMNS = {"linear_svm": "linear SVM", "knn": f"{scores.NEIGHBORS}-NN"}
EPOCHS, QUICK_EPOCHS = 100, 6
#: There are thirty times fewer photographs than digits: this batch takes as many steps.
BATCH_SIZE = 32


def figure1(
    out: Path,
    *,
    data_root: Path | None = None,
    seeds: int | None = None,
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Map embeddings before and after NRE, and score the same classifiers on both.

    Four fifths of each class are learned from, without labels; the classifiers learn from the same
    images with labels, and are tested on the rest. Seeds decide this split, too.

    Parameters
    ----------
    out, data_root, seeds, quick
        As for `nearfar.experiments.table1.table1`. The map shows all images, by the first seed.

    Returns
    -------
    str
        The accuracies as Markdown.
    """
    numbers = choose_seeds(seeds, quick=quick)
    epochs = QUICK_EPOCHS if quick else EPOCHS
    images = caltech101.of_classes(CLASSES, data_root, quick=quick, track=track)
    classifiers = Classifiers(tuple(COLUMNS))
    settings = {
        "quick": quick,
        "classes": CLASSES,
        "images": fingerprint(images),
        **classifiers.settings,
    }
    reproduction = Reproduction(out, "figure1", settings, track=track)

    def config(row: str, seed: int) -> TrainConfig:
        return ROWS[row](epochs, seed=seed, batch_size=BATCH_SIZE)

    def encoder(row: str, seed: int) -> nn.Module:
        if row == PIXELS:
            return nn.Flatten()
        train, _ = caltech101.split(images, seed)
        folder = reproduction.train(cell_name(row, seed), train, config(row, seed), [epochs])
        return network_after(folder, epochs).encoder

    def cell(row: str, seed: int) -> Cell:
        def measure() -> dict[str, float]:
            task = task_on(encoder(row, seed), *caltech101.split(images, seed), seed, track)
            return classifiers.score(task)

        trained = None if row == PIXELS else asdict(config(row, seed))
        settings = {"row": row, "seed": seed, "config": trained}
        return Cell(cell_name(row, seed), settings, measure)

    shown = (PIXELS, *ROWS)
    measured = reproduction.measure([cell(row, seed) for seed, row in product(numbers, shown)])
    values = {
        row: {key: over_seeds(measured, row, key, numbers) for key in COLUMNS} for row in shown
    }
    text = markdown_table(
        ["", *COLUMNS.values(), "the paper's classifier"],
        [
            [row, *map(percent, found.values()), percent([PAPER[row]]) if row in PAPER else BLANK]
            for row, found in values.items()
        ],
        [
            f"Accuracy in %, {seeds_note(numbers)}, each with its own fifth of {len(images):,} "
            f"images held out. Classes: {', '.join(CLASSES)}; the paper does not name its five.",
            f"{epochs} epochs, on {machines(measured)}.",
        ],
    )
    summary = {
        row: {key: summarize(each, PAPER.get(row)) for key, each in found.items()}
        for row, found in values.items()
    }
    before, after = (encode(encoder(row, 0), images, track).numpy() for row in ROWS)
    maps = embedding_maps(before, after, require_labels(images), images.classes)
    reproduction.write(measured, summary, text, maps)
    return text
