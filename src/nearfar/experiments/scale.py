"""Accuracy of an RBF SVM on autoencoder and NRE embeddings, as a function of γ × variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.experiments import digits
from nearfar.experiments.cells import Column, Results
from nearfar.experiments.configs import AUTOENCODER, PAPER
from nearfar.experiments.rows import Row
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import seeds_note, spread
from nearfar.experiments.trained_table import TOTAL_VARIANCE, TrainedTable
from nearfar.experiments.unscaled import PRODUCTS, C, sweep_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = {product: Column(sweep_name(product), f"{product:g}") for product in PRODUCTS}


def _notes(table: TrainedTable, runner: Runner, splits: Splits, results: Results) -> list[str]:
    samples = splits.settings[sweep_name(PRODUCTS[0])]["train_images"]
    test = splits.settings["test"]
    return [
        f"Accuracy in %, {seeds_note(table.seeds)}, by γ times the variance of all dimensions "
        f"together: one-vs-one SVM, C = {C:g}, {samples:,} training images, {test['images']:,} "
        f"images of {test['source']}; {table.epochs} epochs of training.",
        f"Measured on {results.machines}.",
    ]


def _curves(
    table: TrainedTable, runner: Runner, splits: Splits, results: Results
) -> dict[str, Figure]:
    from nearfar.report.figures import sweep_curves

    curves = {
        row: [
            (product, spread(results.values(row, column.key)).mean)
            for product, column in COLUMNS.items()
        ]
        for row in table.rows
    }
    return {table.name: sweep_curves("accuracy of an RBF SVM", "γ × variance", curves)}


SCALE = TrainedTable(
    name="scale",
    # The autoencoder comes first: NRE starts from its snapshot halfway.
    rows={"autoencoder": Row(config=AUTOENCODER), "NRE": Row(config=PAPER)},
    splits=digits.testing,
    shown=(*COLUMNS.values(), TOTAL_VARIANCE),
    epochs=100,
    note=_notes,
    draw=_curves,
    rbf_samples=10_000,
    quick={"epochs": 4},
)
