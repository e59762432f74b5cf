"""Figure 1: embeddings of five Caltech-101 classes by the autoencoder, NRE and our recipe."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nearfar.config import recipe
from nearfar.data import require_labels
from nearfar.evaluation import scores
from nearfar.experiments import caltech101
from nearfar.experiments.cells import Column, Key, Results
from nearfar.experiments.metrics import encode
from nearfar.experiments.rows import Row
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import percent, seeds_note
from nearfar.experiments.trained_table import PIXELS, TrainedTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The paper does not name its five classes; these have the most images.
CLASSES = ("Faces_easy", "Leopards", "Motorbikes", "airplanes", "watch")
#: There are thirty times fewer photographs than digits; this batch size gives as many steps.
BATCH_SIZE = 32
#: Views of the same batch are the negatives of our recipe, which needs more of them.
LARGE_BATCH_SIZE = 256


def _notes(table: TrainedTable, runner: Runner, splits: Splits, results: Results) -> list[str]:
    images = splits.settings["images"]
    return [
        f"Accuracy in %, {seeds_note(table.seeds)}, each with its own fifth of "
        f"{images['images']:,} images held out. Classes: {', '.join(CLASSES)}; the paper does not "
        "name its five.",
        f"{table.epochs} epochs, on {results.machines}.",
    ]


def _maps(
    table: TrainedTable, runner: Runner, splits: Splits, results: Results
) -> dict[str, Figure]:
    """Return a dictionary with one figure: 2-D maps of the embeddings of all images, for seed 0."""
    from nearfar.report.figures import embedding_maps

    images = caltech101.of_classes(
        CLASSES, runner.data_root, quick=runner.quick, track=runner.track
    )
    networks = [
        table.train(runner, splits, Key(row, 0)).network() for row in ("autoencoder", "NRE")
    ]
    before, after = (encode(each.encoder, images, runner.track).numpy() for each in networks)
    return {table.name: embedding_maps(before, after, require_labels(images), images.classes)}


FIGURE1 = TrainedTable(
    name="figure1",
    rows={
        PIXELS: Row(),
        "autoencoder": Row(
            config=recipe("paper", epochs=0, batch_size=BATCH_SIZE), paper={"paper": 0.922}
        ),
        "NRE": Row(config=recipe("paper", batch_size=BATCH_SIZE), paper={"paper": 0.975}),
        "nearfar": Row(config=recipe("nearfar", batch_size=LARGE_BATCH_SIZE)),
    },
    splits=partial(caltech101.splits, classes=CLASSES),
    shown=(
        Column("linear_svm", "linear SVM"),
        Column("knn", f"{scores.NEIGHBORS}-NN"),
        Column("paper", "the paper's classifier", lambda values, paper: percent([paper or 0.0])),
    ),
    epochs=100,
    note=_notes,
    draw=_maps,
    quick={"epochs": 6},
)
