"""Figure 4: reconstructions of test digits by NRE and by the plain autoencoder."""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from pathlib import Path

from nearfar.data import to_unit
from nearfar.experiments import digits
from nearfar.experiments.configs import plain, relational
from nearfar.experiments.metrics import network_after, pixel_error, reconstruct
from nearfar.experiments.runner import Cell, Reproduction, fingerprint
from nearfar.experiments.statistics import (
    cell_name,
    choose_seeds,
    machines,
    number,
    over_seeds,
    seeds_note,
    summarize,
)
from nearfar.models import Autoencoder
from nearfar.progress import Track, silent
from nearfar.report import markdown_table
from nearfar.report.figures import comparison_sheet
from nearfar.training.config import TrainConfig

#: In the order of the paper's figure.
ROWS = {"NRE": relational, "autoencoder": plain}
EPOCHS, QUICK_EPOCHS = 100, 4


def figure4(
    out: Path,
    *,
    data_root: Path | None = None,
    seeds: int | None = None,
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Draw a test digit of each class with its reconstructions, and measure the pixel error of all.

    Parameters
    ----------
    out, data_root, seeds, quick
        As for `nearfar.experiments.table1.table1`. The picture shows the first seed.

    Returns
    -------
    str
        The pixel errors as Markdown.
    """
    numbers = choose_seeds(seeds, quick=quick)
    epochs = QUICK_EPOCHS if quick else EPOCHS
    train, test = digits.for_testing(data_root, quick=quick)
    settings = {"quick": quick, "train": fingerprint(train), "test": fingerprint(test)}
    reproduction = Reproduction(out, "figure4", settings, track=track)

    def config(row: str, seed: int) -> TrainConfig:
        return ROWS[row](epochs, seed=seed, **digits.choices(quick=quick))

    def network(row: str, seed: int) -> Autoencoder:
        folder = reproduction.train(cell_name(row, seed), train, config(row, seed), [epochs])
        return network_after(folder, epochs)

    def cell(row: str, seed: int) -> Cell:
        return Cell(
            cell_name(row, seed),
            {"row": row, "seed": seed, "config": asdict(config(row, seed))},
            lambda: {"pixel_error": pixel_error(network(row, seed), test, track)},
        )

    # The autoencoder first: NRE begins from what it is at half time.
    order = product(numbers, reversed(ROWS))
    measured = reproduction.measure([cell(row, seed) for seed, row in order])
    errors = {row: over_seeds(measured, row, "pixel_error", numbers) for row in ROWS}
    shown = digits.one_of_each_class(test)
    pictures = {"original": to_unit(shown.batch(range(len(shown)))).numpy()}
    pictures |= {row: reconstruct(network(row, 0), shown).numpy() for row in ROWS}
    text = markdown_table(
        ["", "pixel error"],
        [[row, number(values, 4)] for row, values in errors.items()],
        [
            f"Mean squared pixel error on {len(test):,} images of {test.name}, after {epochs} "
            f"epochs, {seeds_note(numbers)}, on {machines(measured)}."
        ],
    )
    summary = {row: summarize(values) for row, values in errors.items()}
    reproduction.write(measured, summary, text, comparison_sheet(pictures))
    return text
