"""What matters: one choice at a time changed from the paper's, scored on a validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from nearfar.evaluation import scores
from nearfar.experiments import digits
from nearfar.experiments.configs import plain, relational
from nearfar.experiments.metrics import Classifiers, network_after, pixel_error, task_on
from nearfar.experiments.runner import Cell, Reproduction, fingerprint
from nearfar.experiments.statistics import (
    cell_name,
    choose_rows,
    choose_seeds,
    machines,
    number,
    over_seeds,
    percent,
    seeds_note,
    summarize,
)
from nearfar.progress import Track, silent
from nearfar.report import markdown_table
from nearfar.report.figures import Dot, dot_plot
from nearfar.training.config import TrainConfig

RANDOM_HOLES: dict[str, Any] = {"pretext": "context", "holes": "random"}
#: Autoencoders come first: relations begin from what these are at half time.
ROWS: dict[str, Callable[..., TrainConfig]] = {
    "autoencoder": plain,
    "autoencoder,embedding-size=32": partial(plain, embedding_size=32),
    "autoencoder,embedding-size=512": partial(plain, embedding_size=512),
    "paper": relational,
    "weights=1,0,0": partial(relational, weights=(1.0, 0.0, 0.0)),
    "weights=0.6,0.4,0": partial(relational, weights=(0.6, 0.4, 0.0)),
    "weights=0.6,0.2,0.2": partial(relational, weights=(0.6, 0.2, 0.2)),
    "weights=thirds": partial(relational, weights=(1 / 3, 1 / 3, 1 / 3)),
    "T=5": partial(relational, neighbors=5),
    "T=10": partial(relational, neighbors=10),
    "T=10,mean": partial(relational, neighbors=10, reduction="mean"),
    "K=10": partial(relational, clusters=10),
    "K=1000": partial(relational, clusters=1000),
    "finder=exact": partial(relational, finder="exact"),
    "lr=0.001": partial(relational, lr=1e-3),
    "lr=0.001,T=10": partial(relational, lr=1e-3, neighbors=10),
    "similarity=centered-cosine": partial(relational, similarity="centered-cosine"),
    "pixel-weight=1": partial(relational, pixel_weight=1.0),
    "pixel-weight=30": partial(relational, pixel_weight=30.0),
    "pixel-weight=1000": partial(relational, pixel_weight=1000.0),
    "pixel-weight=1000,T=10": partial(relational, pixel_weight=1000.0, neighbors=10),
    "pixel-weight=1000,T=10,lr=0.001": partial(
        relational, pixel_weight=1000.0, neighbors=10, lr=1e-3
    ),
    "autoencoder,pretext=context,holes=random": partial(plain, **RANDOM_HOLES),
    "pretext=context,holes=random": partial(relational, **RANDOM_HOLES),
    "search=step": partial(relational, search="step"),
    "relative-to=image": partial(relational, relative_to="image"),
    "embedding-size=32": partial(relational, embedding_size=32),
    "embedding-size=512": partial(relational, embedding_size=512),
}
COLUMNS = {"linear_svm": "L-SVM", "rbf_svm": "R-SVM", "knn": f"{scores.NEIGHBORS}-NN"}
#: The RBF SVM learns from at most so many images.
RBF_SAMPLES = 10_000
EPOCHS, QUICK_EPOCHS = 40, 2


def ablation(
    out: Path,
    *,
    data_root: Path | None = None,
    seeds: int | None = None,
    rows: Sequence[str] = (),
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Change one choice at a time, and write `ablation.json`, `ablation.md` and `ablation.png`.

    Parameters
    ----------
    rows : sequence of str
        Some of `ROWS`; all if none are given.
    out, data_root, seeds, quick
        As for `nearfar.experiments.table1.table1`; the test digits are not read.

    Returns
    -------
    str
        The table as Markdown.

    Raises
    ------
    NearfarError
        If a row is unknown, there are no seeds, or the folder was begun with other choices.
    """
    chosen = choose_rows(rows, ROWS)
    numbers = choose_seeds(seeds, quick=quick)
    epochs = QUICK_EPOCHS if quick else EPOCHS
    train, validation = digits.for_validation(data_root, quick=quick)
    classifiers = Classifiers(tuple(COLUMNS), min(RBF_SAMPLES, len(train)))
    settings = {
        "quick": quick,
        "train": fingerprint(train),
        "validation": fingerprint(validation),
        **classifiers.settings,
    }
    reproduction = Reproduction(out, "ablation", settings, track=track)

    def cell(row: str, seed: int) -> Cell:
        config = ROWS[row](epochs, seed=seed, **digits.choices(quick=quick))

        def measure() -> dict[str, float]:
            folder = reproduction.train(cell_name(row, seed), train, config, [epochs])
            network = network_after(folder, epochs)
            task = task_on(network.encoder, train, validation, seed, track)
            error = pixel_error(network, validation, track)
            return {**classifiers.score(task), "pixel_error": error}

        settings = {"row": row, "seed": seed, "config": asdict(config)}
        return Cell(cell_name(row, seed), settings, measure)

    measured = reproduction.measure([cell(row, seed) for seed, row in product(numbers, chosen)])
    values = {
        row: {key: over_seeds(measured, row, key, numbers) for key in (*COLUMNS, "pixel_error")}
        for row in chosen
    }
    text = markdown_table(
        ["", *COLUMNS.values(), "pixel error"],
        [
            [row, *(percent(found[key]) for key in COLUMNS), number(found["pixel_error"], 4)]
            for row, found in values.items()
        ],
        [
            f"Accuracy in %, {seeds_note(numbers)}, on {len(validation):,} validation images of "
            f"{validation.name}; {len(train):,} others were learned from, for {epochs} epochs.",
            f"The R-SVM learned from {classifiers.rbf_samples:,} of them. Measured on "
            f"{machines(measured)}.",
        ],
    )
    summary = {
        row: {key: summarize(each) for key, each in found.items()} for row, found in values.items()
    }
    panels = {
        title: [Dot(row, found[key]) for row, found in values.items()]
        for key, title in COLUMNS.items()
    }
    reproduction.write(measured, summary, text, dot_plot(panels, percent=True))
    return text
