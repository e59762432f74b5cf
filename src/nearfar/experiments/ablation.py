"""Ablation of the paper: each row changes one or a few settings, on a validation split."""

from __future__ import annotations

from typing import Any

from nearfar.config import recipe
from nearfar.evaluation import scores
from nearfar.experiments import digits
from nearfar.experiments.cells import Column, Results
from nearfar.experiments.rows import Row
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import seeds_note
from nearfar.experiments.trained_table import PIXEL_ERROR, TrainedTable

#: Options of each row. Autoencoders come first: other rows start from their snapshots halfway.
OPTIONS: dict[str, dict[str, Any]] = {
    "autoencoder": {"epochs": 0},
    "autoencoder,embedding-size=32": {"epochs": 0, "embedding_size": 32},
    "autoencoder,embedding-size=512": {"epochs": 0, "embedding_size": 512},
    "paper": {},
    "weights=1,0,0": {"loss_weights": (1.0, 0.0, 0.0)},
    "weights=0.6,0.4,0": {"loss_weights": (0.6, 0.4, 0.0)},
    "weights=0.6,0.2,0.2": {"loss_weights": (0.6, 0.2, 0.2)},
    "weights=thirds": {"loss_weights": (1 / 3, 1 / 3, 1 / 3)},
    "T=5": {"neighbors": 5},
    "T=10": {"neighbors": 10},
    "T=10,mean": {"neighbors": 10, "reduction": "mean"},
    "K=10": {"clusters": 10},
    "K=1000": {"clusters": 1000},
    "finder=exact": {"finder": "exact"},
    "lr=0.001": {"lr": 1e-3},
    "lr=0.001,T=10": {"lr": 1e-3, "neighbors": 10},
    "similarity=centered-cosine": {"similarity": "centered-cosine"},
    "pixel-weight=1": {"pixel_weight": 1.0},
    "pixel-weight=30": {"pixel_weight": 30.0},
    "pixel-weight=1000": {"pixel_weight": 1000.0},
    "pixel-weight=1000,T=10": {"pixel_weight": 1000.0, "neighbors": 10},
    "pixel-weight=1000,T=10,lr=0.001": {"pixel_weight": 1000.0, "neighbors": 10, "lr": 1e-3},
    "autoencoder,pretext=inpainting,holes=random": {
        "epochs": 0,
        "pretext": "inpainting",
        "holes": "random",
    },
    "pretext=inpainting,holes=random": {"pretext": "inpainting", "holes": "random"},
    "search-every=step": {"search_every": "step"},
    "relative-to=image": {"relative_to": "image"},
    "embedding-size=32": {"embedding_size": 32},
    "embedding-size=512": {"embedding_size": 512},
}
ROWS = {label: Row(config=recipe("paper", **options)) for label, options in OPTIONS.items()}


def _notes(table: TrainedTable, runner: Runner, splits: Splits, results: Results) -> list[str]:
    train, validation = splits.settings["train"], splits.settings["validation"]
    samples = splits.settings["rbf_svm"]["train_images"]
    return [
        f"Accuracy in %, {seeds_note(table.seeds)}, on {validation['images']:,} validation images "
        f"of {validation['source']}; trained on {train['images']:,} others, for {table.epochs} "
        "epochs.",
        f"The R-SVM was trained on {samples:,} of them. Measured on {results.machines}.",
    ]


ABLATION = TrainedTable(
    name="ablation",
    rows=ROWS,
    splits=digits.validating,
    shown=(
        Column("linear_svm", "L-SVM"),
        Column("rbf_svm", "R-SVM"),
        Column("knn", f"{scores.NEIGHBORS}-NN"),
        PIXEL_ERROR,
    ),
    epochs=40,
    note=_notes,
    rbf_samples=10_000,
    quick={"epochs": 2},
)
