"""Table of pretrained encoders, with and without further training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from nearfar.config import DEFAULT_ENCODER, recipe
from nearfar.evaluation import scores
from nearfar.experiments.baselines import METHODS
from nearfar.experiments.cells import Column, Results
from nearfar.experiments.photographs import PHOTOGRAPHS, opener
from nearfar.experiments.recipes import BaselineRow
from nearfar.experiments.rows import Row
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import seeds_note
from nearfar.experiments.trained_table import MINUTES, PIXELS, TrainedTable
from nearfar.models import pretrained_encoder

BATCH_SIZE = 64
SIZE = 96

CONTINUE = recipe("continue")


@dataclass(frozen=True, kw_only=True)
class FrozenRow(Row):
    """Row for the default encoder without further training.

    Parameters
    ----------
    weights : {"pretrained", "random"}
        Weights of the encoder.
    """

    weights: str = "pretrained"

    def encoder(self) -> nn.Module:
        """See `Row.encoder`."""
        return pretrained_encoder(DEFAULT_ENCODER, self.weights)

    def describe(self) -> dict[str, Any]:
        """See `Row.describe`."""
        return {"encoder": DEFAULT_ENCODER, "weights": self.weights}


def _own(**options: Any) -> Row:
    return Row(config=recipe("continue", **options), decoder=False)


ROWS: dict[str, Row] = {
    PIXELS: Row(),
    "random": FrozenRow(weights="random"),
    "pretrained": FrozenRow(),
    "continued": _own(),
    "without-near": _own(neighbor_prob=0.0),
    "without-far": _own(clusters=1),
    "without-distillation": _own(distill_weight=0.0),
    **{
        method: BaselineRow(config=replace(CONTINUE, objective=objective), method=method)
        for method, objective in METHODS.items()
    },
}


def _notes(table: TrainedTable, runner: Runner, splits: Splits, results: Results) -> list[str]:
    return [
        f"Accuracy in %, {seeds_note(table.seeds)}. L-SVM: the best C of {scores.LINEAR_CS} on a "
        f"fifth of the training images. {scores.NEIGHBORS}-NN: by cosine.",
        f"pretrained: {DEFAULT_ENCODER}. The rows below train it further for {table.epochs} epochs "
        f"without labels, with the same optimizer; {', '.join(METHODS)} with losses and heads of "
        "lightly, and nearfar's augmentation.",
        f"Minutes of training are on {results.machines}.",
    ]


CONTINUED = {
    name: TrainedTable(
        name="continued",
        rows=ROWS,
        always="pretrained",
        splits=opener(name, size=SIZE, batch_size=BATCH_SIZE),
        shown=(
            Column("linear_svm", "L-SVM", best=max),
            Column("knn", f"{scores.NEIGHBORS}-NN", best=max),
            replace(MINUTES, best=min),
        ),
        epochs=8,
        note=_notes,
        quick={"epochs": 2},
    )
    for name in PHOTOGRAPHS
}
