"""Table 1: SVMs on MNIST embeddings of several autoencoders, after 40 and 100 epochs.

To add rows from a file, use ``nearfar reproduce table1 --rows-from``.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from nearfar.config import recipe
from nearfar.evaluation import scores
from nearfar.experiments import digits, unscaled
from nearfar.experiments.cells import Column, Papers, Results
from nearfar.experiments.configs import AUTOENCODER, PAPER
from nearfar.experiments.rows import Row
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import seeds_note
from nearfar.experiments.trained_table import (
    MINUTES,
    PIXEL_ERROR,
    PIXELS,
    TOTAL_VARIANCE,
    TrainedTable,
)

EPOCHS = (40, 100)
COLUMNS = (Column("linear_svm", "L-SVM"), Column("rbf_svm", "R-SVM"))
UNSCALED_COLUMNS = (Column("linear_svc", "L-SVM"), Column("rbf_svc", "R-SVM"))


def _paper(*accuracies: float) -> Papers:
    """Return the accuracies from the paper for a row, by classifier and number of epochs.

    The same accuracies apply to the classifiers on scaled and on unscaled embeddings.
    """
    return {
        (column.key, epochs): accuracy
        for columns in (COLUMNS, UNSCALED_COLUMNS)
        for (column, epochs), accuracy in zip(product(columns, EPOCHS), accuracies, strict=True)
    }


_DENOISING = _paper(0.942, 0.936, 0.954, 0.964)
_INPAINTING = _paper(0.970, 0.974, 0.978, 0.981)

ROWS = {
    PIXELS: Row(),
    "autoencoder": Row(config=AUTOENCODER, paper=_paper(0.969, 0.969, 0.961, 0.972)),
    "denoising-masking": Row(
        config=recipe("paper", epochs=0, pretext="denoising", noise="masking"), paper=_DENOISING
    ),
    "denoising-gaussian": Row(
        config=recipe("paper", epochs=0, pretext="denoising", noise="gaussian"), paper=_DENOISING
    ),
    "context-center": Row(
        config=recipe("paper", epochs=0, pretext="inpainting", holes="center"), paper=_INPAINTING
    ),
    "context-random": Row(
        config=recipe("paper", epochs=0, pretext="inpainting", holes="random"), paper=_INPAINTING
    ),
    "split-brain": Row(
        config=recipe("paper", epochs=0, pretext="split-brain"),
        paper=_paper(0.972, 0.973, 0.975, 0.979),
    ),
    "NRE": Row(config=PAPER, paper=_paper(0.977, 0.978, 0.981, 0.984)),
}


def _accuracy_note(table: TrainedTable, splits: Splits) -> str:
    train, test = splits.settings["train"], splits.settings["test"]
    return (
        f"Accuracy in %, {seeds_note(table.seeds)}; in parentheses, the paper's. "
        f"{train['images']:,} training images of {train['source']}, {test['images']:,} test "
        f"images of {test['source']}."
    )


def _notes(table: TrainedTable, runner: Runner, splits: Splits, results: Results) -> list[str]:
    return [
        _accuracy_note(table, splits),
        f"L-SVM: the best C of {scores.LINEAR_CS} on a fifth of the training images, each "
        "dimension to variance 1. R-SVM: C = "
        f"{scores.RBF_C:g}, γ = {scores.RBF_GAMMA:g}, all dimensions together to variance "
        f"{scores.TOTAL_VARIANCE:g}, {splits.settings['rbf_svm']['train_images']:,} training "
        "images.",
        "Mean squared pixel error on the test images, and minutes of training, for "
        f"{table.counts[-1]} epochs, on {results.machines}.",
    ]


TABLE1 = TrainedTable(
    name="table1",
    rows=ROWS,
    always=PIXELS,
    splits=digits.testing,
    shown=(*COLUMNS, PIXEL_ERROR, MINUTES),
    epochs=EPOCHS,
    note=_notes,
    # The paper claims that the first row is better than the second.
    compared=("NRE", "autoencoder"),
    quick={"epochs": (2, 5)},
)


def _unscaled_notes(
    table: TrainedTable, runner: Runner, splits: Splits, results: Results
) -> list[str]:
    samples = splits.settings["rbf_svc"]["train_images"]
    return [
        _accuracy_note(table, splits),
        f"Both SVMs: one-vs-one, C = {unscaled.C:g}, {samples:,} training images, embeddings as "
        f"they are; R-SVM with γ = {scores.RBF_GAMMA:g}. Variance: of all dimensions together.",
        f"Measured on {results.machines}.",
    ]


#: Table 1 with scikit-learn's default SVMs on unscaled embeddings.
TABLE1_UNSCALED = replace(
    TABLE1,
    name="table1-unscaled",
    shown=(*UNSCALED_COLUMNS, TOTAL_VARIANCE),
    note=_unscaled_notes,
)
