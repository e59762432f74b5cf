"""Figure 4: reconstructions of test digits by NRE and by the plain autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.data import to_unit
from nearfar.experiments import digits
from nearfar.experiments.cells import Key, Results
from nearfar.experiments.configs import AUTOENCODER, PAPER
from nearfar.experiments.metrics import reconstruct
from nearfar.experiments.rows import Row
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import seeds_note
from nearfar.experiments.trained_table import PIXEL_ERROR, TrainedTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _notes(table: TrainedTable, runner: Runner, splits: Splits, results: Results) -> list[str]:
    test = splits.settings["test"]
    return [
        f"Mean squared pixel error on {test['images']:,} images of {test['source']}, after "
        f"{table.epochs} epochs, {seeds_note(table.seeds)}, on {results.machines}."
    ]


def _pictures(
    table: TrainedTable, runner: Runner, splits: Splits, results: Results
) -> dict[str, Figure]:
    """Return a dictionary with one figure: test digits and reconstructions, for seed 0.

    The figure shows one digit of each class.
    """
    from nearfar.report.figures import comparison_sheet

    shown = digits.one_of_each_class(splits.of(0)[1])
    pictures = {"original": to_unit(shown.batch(range(len(shown)))).numpy()}
    for row in reversed([*table.rows]):  # in the order of the paper's figure
        network = table.train(runner, splits, Key(row, 0)).network()
        pictures[row] = reconstruct(network, shown).numpy()
    return {table.name: comparison_sheet(pictures)}


FIGURE4 = TrainedTable(
    name="figure4",
    # The autoencoder comes first: NRE starts from its snapshot halfway.
    rows={"autoencoder": Row(config=AUTOENCODER), "NRE": Row(config=PAPER)},
    splits=digits.testing,
    shown=(PIXEL_ERROR,),
    epochs=100,
    note=_notes,
    draw=_pictures,
    quick={"epochs": 4},
)
