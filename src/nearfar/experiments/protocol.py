"""Search for the settings of Table 1 that the paper does not state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from nearfar.config import TrainConfig, recipe
from nearfar.experiments import digits, table1, unscaled
from nearfar.experiments.alocc import ALOCCNetwork
from nearfar.experiments.cells import Column, Key, Papers, Results
from nearfar.experiments.configs import AUTOENCODER, PAPER
from nearfar.experiments.plain_network import SIDE, PlainNetwork
from nearfar.experiments.rows import Row
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import seeds_note
from nearfar.experiments.trained_table import PIXEL_ERROR, TOTAL_VARIANCE, TrainedTable
from nearfar.models import Autoencoder
from nearfar.randomness import own_random_numbers

#: A tenth of the paper's epochs.
EPOCHS = (4, 10)


def _paper(*accuracies: float) -> Papers:
    """Return the accuracies from the paper by classifier and number of epochs.

    They are shown beside a tenth of the paper's epochs, too.
    """
    return {
        column: accuracy
        for epochs in (EPOCHS, table1.EPOCHS)
        for column, accuracy in zip(
            product(("linear_svc", "rbf_svc"), epochs), accuracies, strict=True
        )
    }


TARGETS = _paper(0.969, 0.969, 0.961, 0.972)
_NRE_TARGETS = _paper(0.977, 0.978, 0.981, 0.984)
_ALOCC: dict[str, Any] = {"network": ALOCCNetwork, "options": {"side": SIDE, "signed": False}}


@dataclass(frozen=True, kw_only=True)
class OpenRow(Row):
    """Row with a custom network.

    Parameters
    ----------
    network : callable
        Class of the network.
    options : mapping
        Keyword arguments of the network.
    """

    config: TrainConfig | None = AUTOENCODER
    network: Callable[..., Autoencoder] = PlainNetwork
    options: Mapping[str, Any] = field(default_factory=dict)
    paper: Papers = field(default_factory=lambda: TARGETS)

    def describe(self) -> dict[str, Any]:
        """See `Row.describe`."""
        return {"network": dict(self.options)}


@dataclass(frozen=True, kw_only=True)
class OpenTable(TrainedTable):
    """Table in which each row has a custom network."""

    row_type = OpenRow

    def config(self, runner: Runner, data: Splits, key: Key) -> TrainConfig | None:
        """See `TrainedTable.config`."""
        config, row = super().config(runner, data, key), self.rows[key.row]
        if config is None or not isinstance(row, OpenRow):
            return config
        with own_random_numbers(key.seed):
            return replace(config, network=row.network(**row.options))


ROWS = {
    "default": OpenRow(),
    "embedding-size=64": OpenRow(options={"embedding_size": 64}),
    "embedding-size=256": OpenRow(options={"embedding_size": 256}),
    "embedding-size=512": OpenRow(options={"embedding_size": 512}),
    "kernel=5": OpenRow(options={"kernel": 5}),
    "pooling": OpenRow(options={"pooling": True}),
    "hidden=512": OpenRow(options={"hidden": 512}),
    "signed-pixels": OpenRow(options={"signed": True}),
    "embedding-scale=0.3": OpenRow(options={"embedding_scale": 0.3}),
    "embedding-scale=0.1": OpenRow(options={"embedding_scale": 0.1}),
    "glorot": OpenRow(options={"glorot": True}),
    "alocc": OpenRow(**_ALOCC),
    "alocc-NRE": OpenRow(config=PAPER, paper=_NRE_TARGETS, **_ALOCC),
    "pretrain-lr=0.0001": OpenRow(config=recipe("paper", epochs=0, pretrain_lr=1e-4)),
}


def _notes(table: TrainedTable, runner: Runner, splits: Splits, results: Results) -> list[str]:
    train, validation = splits.settings["train"], splits.settings["validation"]
    samples = splits.settings["rbf_svc"]["train_images"]
    return [
        f"Accuracy in %, {seeds_note(table.seeds)}, on {validation['images']:,} validation images "
        f"of {validation['source']}; trained on {train['images']:,} others. In parentheses, the "
        "paper's, after 40 and 100 epochs.",
        f"Both SVMs: one-vs-one, C = {unscaled.C:g}, {samples:,} training images, embeddings as "
        "they are. Variance: of all dimensions together.",
        f"Measured on {results.machines}.",
    ]


PROTOCOL = OpenTable(
    name="protocol",
    rows=ROWS,
    splits=digits.validating,
    shown=(
        Column("linear_svc", "L-SVM"),
        Column("rbf_svc", "R-SVM"),
        TOTAL_VARIANCE,
        PIXEL_ERROR,
    ),
    epochs=EPOCHS,
    seeds=1,
    note=_notes,
    rbf_samples=10_000,
    quick={"epochs": (1, 2)},
)
