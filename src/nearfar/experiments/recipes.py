"""Comparison of our recipe with the recipe of the paper and with other self-supervised methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from nearfar.config import TrainConfig
from nearfar.errors import require
from nearfar.evaluation import scores
from nearfar.experiments import digits
from nearfar.experiments.baselines import EXTRA, METHODS, embedding_size
from nearfar.experiments.cells import Column, Results
from nearfar.experiments.configs import (
    NEARFAR,
    NEARFAR_AUTOENCODER,
    NEARFAR_PHOTOGRAPHS,
    PAPER,
)
from nearfar.experiments.photographs import PHOTOGRAPHS, opener
from nearfar.experiments.rows import Row
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import seeds_note
from nearfar.experiments.trained_table import MINUTES, PIXEL_ERROR, PIXELS, TrainedTable

#: There are thirty times fewer photographs than digits; smaller batches mean more steps.
PHOTOGRAPHS_BATCH_SIZE = 128


@dataclass(frozen=True, kw_only=True)
class BaselineRow(Row):
    """Row for a lightly method, which does not train a decoder.

    Parameters
    ----------
    method : str
        Name of the method in `METHODS`. The method must be the objective of `config`.
    """

    method: str
    decoder: bool = False

    def describe(self) -> dict[str, Any]:
        """Return the version of lightly and the settings of the method."""
        require("lightly", extra=EXTRA)
        assert self.config is not None  # noqa: S101 - for the type alone
        settings = METHODS[self.method].heads.settings(embedding_size(self.config))
        return {"lightly": version("lightly"), "method": settings}


def _rows(nearfar: TrainConfig) -> dict[str, Row]:
    """Return the rows of the table, with the encoder and optimizer of our recipe."""
    baselines = {
        method: BaselineRow(config=replace(nearfar, objective=objective), method=method)
        for method, objective in METHODS.items()
    }
    return {
        PIXELS: Row(),
        "autoencoder": Row(config=replace(NEARFAR_AUTOENCODER, network=nearfar.network)),
        "paper": Row(config=PAPER),
        # The quick form must have enough epochs for a neighbor search.
        "nearfar": Row(config=nearfar, quick={"refresh_neighbors_every": 1}),
        **baselines,
    }


ROWS = _rows(NEARFAR)


def _notes(table: TrainedTable, runner: Runner, splits: Splits, results: Results) -> list[str]:
    settings = splits.settings
    if splits.fixed:
        train, test = settings["train"], settings["test"]
        images = (
            f"{train['images']:,} training images of {train['source']}, {test['images']:,} test "
            f"images of {test['source']}"
        )
    else:
        images = (
            f"{settings['images']['images']:,} images of {settings['images']['source']}, of which "
            f"each seed holds out its own fifth of each of {len(settings['classes'])} classes"
        )
    return [
        f"Accuracy in %, {seeds_note(table.seeds)}; in bold, the best and what is within a "
        f"standard deviation of it. {images}.",
        f"{table.epochs} epochs each, without labels. All rows but paper have nearfar's encoder, "
        f"batch size, optimizer and learning rate schedule; {', '.join(METHODS)} also its "
        "augmentation and temperature, with losses and heads of lightly.",
        "The settings of nearfar were chosen by SVMs on MNIST's training digits and, for "
        "photographs, on training images of Imagenette, never on test images. Settings that other "
        "rows do not share with it were not tuned.",
        f"L-SVM: the best C of {scores.LINEAR_CS} on a fifth of the training images. R-SVM: "
        f"C = {scores.RBF_C:g}, γ = {scores.RBF_GAMMA:g}. {scores.NEIGHBORS}-NN: by cosine.",
        "Mean squared pixel error on the test images, where there is a decoder, and minutes of "
        f"training, on {results.machines}.",
    ]


RECIPE_COMPARISON = TrainedTable(
    name="recipes",
    rows=ROWS,
    always=PIXELS,
    splits=digits.official,
    shown=(
        Column("linear_svm", "L-SVM", best=max),
        Column("rbf_svm", "R-SVM", best=max),
        Column("knn", f"{scores.NEIGHBORS}-NN", best=max),
        replace(PIXEL_ERROR, best=min),
        replace(MINUTES, best=min),
    ),
    epochs=NEARFAR.optim.epochs,
    note=_notes,
    quick={"epochs": 2},
)
#: The same comparison on photographs, by the name of the data set.
PHOTOGRAPHS_COMPARISON = {
    name: replace(
        RECIPE_COMPARISON,
        rows=_rows(NEARFAR_PHOTOGRAPHS),
        splits=opener(name, size=64, batch_size=PHOTOGRAPHS_BATCH_SIZE),
    )
    for name in PHOTOGRAPHS
}
