"""Figure 1: codes of five classes of Caltech photographs by the plain autoencoder and by NRE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from torch import nn

from nearfar.data import Images, Subset, open_images, require_labels
from nearfar.data.named import default_data_root
from nearfar.evaluation import scores
from nearfar.evaluation.table import BLANK, markdown_table
from nearfar.progress import Track, silent
from nearfar.report.figures import code_maps
from nearfar.reproduce.budget import plain, relational
from nearfar.reproduce.engine import Cell, Reproduction, fingerprint
from nearfar.reproduce.measuring import encode, network_after, task_on
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

FOLDER = Path("caltech101", "101_ObjectCategories")
#: The paper does not name its five classes; these have the most images.
CLASSES = ("Faces_easy", "Leopards", "Motorbikes", "airplanes", "watch")
SIZE, QUICK_SIZE = 64, 32
#: Every so many images, if quick.
QUICK_EVERY = 8
TESTED = 0.2

PIXELS = "pixels"
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
    """Map codes before and after NRE, and score the same classifiers on both.

    Four fifths of each class are learned from, without labels; the classifiers learn from the same
    images with labels, and are tested on the rest. Seeds decide this split, too.

    Parameters
    ----------
    out, data_root, seeds, quick
        As for `nearfar.reproduce.table1.table1`. The map shows all images, by the first seed.

    Returns
    -------
    str
        The accuracies as Markdown.
    """
    numbers = choose_seeds(seeds, quick=quick)
    epochs = QUICK_EPOCHS if quick else EPOCHS
    images = _photographs(data_root, quick, track)
    settings = {"quick": quick, "classes": CLASSES, "images": fingerprint(images)}
    reproduction = Reproduction(out, "figure1", settings, track=track)

    def config(row: str, seed: int) -> TrainConfig:
        return ROWS[row](epochs, seed=seed, batch_size=BATCH_SIZE)

    def encoder(row: str, seed: int) -> nn.Module:
        if row == PIXELS:
            return nn.Flatten()
        train, _ = _split(images, seed)
        folder = reproduction.train(cell_name(row, seed), train, config(row, seed), [epochs])
        return network_after(folder, epochs).encoder

    def cell(row: str, seed: int) -> Cell:
        def measure() -> dict[str, float]:
            task = task_on(encoder(row, seed), *_split(images, seed), seed, track)
            return {
                "linear_svm": scores.linear_svm(task).mean,
                "knn": scores.nearest_neighbors(task).mean,
            }

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
    maps = code_maps(before, after, require_labels(images), images.classes)
    reproduction.write(measured, summary, text, maps)
    return text


def _photographs(data_root: Path | None, quick: bool, track: Track) -> Images:
    """Return the images of the five classes."""
    images = open_images(
        (data_root or default_data_root()) / FOLDER,
        size=QUICK_SIZE if quick else SIZE,
        channels=3,
        progress=track,
    )
    names = np.array(images.classes)[require_labels(images)]
    rows = np.flatnonzero(np.isin(names, CLASSES))
    chosen = Subset(images, rows[:: QUICK_EVERY if quick else 1])
    chosen.name = str(FOLDER)
    return chosen


def _split(images: Images, seed: int) -> tuple[Images, Images]:
    """Hold out a fifth of each class."""
    train, test = train_test_split(
        np.arange(len(images)),
        test_size=TESTED,
        stratify=require_labels(images),
        random_state=seed,
    )
    return Subset(images, train), Subset(images, test)
