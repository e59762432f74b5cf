"""Our recipe beside the paper's, and beside what a user would train instead of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from nearfar.data import Images, open_images
from nearfar.errors import NearfarError, require
from nearfar.evaluation import BLANK, scores
from nearfar.experiments import caltech101, digits
from nearfar.experiments.baselines import EXTRA, METHODS, Baseline
from nearfar.experiments.configs import OURS, SHARED, ours, plain_like_ours, relational
from nearfar.experiments.metrics import Classifiers, network_after, pixel_error, task_on
from nearfar.experiments.runner import Cell, Measured, Reproduction, fingerprint, training_seconds
from nearfar.experiments.statistics import (
    PIXELS,
    cell_name,
    choose_rows,
    choose_seeds,
    machines,
    minutes,
    number,
    over_seeds,
    percent,
    seeds_note,
    spread,
    summarize,
)
from nearfar.progress import Track, silent
from nearfar.report import markdown_table
from nearfar.report.figures import Dot, dot_plot
from nearfar.training.config import TrainConfig

QUICK_EPOCHS = 2
#: Our recipe has neighbors after its first search, for which few epochs must not be too few.
QUICK_OURS = {"refresh": 1}

#: There are thirty times fewer photographs than digits: smaller batches take more steps.
PHOTOGRAPHS_BATCH_SIZE = 128


def _baseline(epochs: int, **choices: Any) -> TrainConfig:
    every = {**SHARED, **choices, "relation": "embeddings", "pretrain_epochs": 0, "epochs": epochs}
    return TrainConfig(**every)


#: How each row is trained for so many epochs in all.
ROWS: dict[str, Callable[..., TrainConfig]] = {
    "autoencoder": plain_like_ours,
    "paper": relational,
    "nearfar": ours,
    **dict.fromkeys(METHODS, _baseline),
}


@dataclass(frozen=True)
class Column:
    """A result: its title, how values over seeds are shown, and which of two means is better."""

    title: str
    show: Callable[[Sequence[float]], str]
    best: Callable[..., Any] = max


ACCURACIES = {
    "linear_svm": Column("L-SVM", percent),
    "rbf_svm": Column("R-SVM", percent),
    "knn": Column(f"{scores.NEIGHBORS}-NN", percent),
}
COLUMNS = {
    **ACCURACIES,
    "pixel_error": Column("pixel error", partial(number, decimals=4), min),
    "training_seconds": Column("minutes", minutes, min),
}


@dataclass(frozen=True)
class Data:
    """Labeled images.

    Parameters
    ----------
    settings : mapping
        What identifies them.
    split : callable
        Gives images to learn from and to be tested on, for a seed.
    fixed : bool
        Whether the split is the same for all seeds.
    choices : mapping
        What trainings on these images have in common, beyond the rows' own choices.
    """

    settings: Mapping[str, Any]
    split: Callable[[int], tuple[Images, Images]]
    fixed: bool
    choices: Mapping[str, Any]


def recipes(
    out: Path,
    *,
    data: str = "mnist",
    data_root: Path | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    rows: Sequence[str] = (),
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Train every row, measure it, and write `recipes.json`, `recipes.md` and `recipes.png`.

    Parameters
    ----------
    out, data_root, seeds
        As for `nearfar.experiments.table1.table1`.
    data : str
        "mnist", all training digits and the official test digits; or "caltech", nine classes of
        photographs, of which a fifth is held out, another one for each seed.
    epochs : int, optional
        How long every row is trained, in all; as long as our recipe if not given, 2 if quick.
    rows : sequence of str
        Some of `ROWS`; all if none are given. Raw pixels are always there.
    quick : bool
        Whether to take the 5,000 digits that need no network, or few and small photographs.

    Returns
    -------
    str
        The table as Markdown.

    Raises
    ------
    NearfarError
        If a row or the data are unknown, there are no seeds, lightly is missing for a row that
        needs it, or the folder was begun with other choices.
    """
    chosen = [row for row in choose_rows(rows, [PIXELS, *ROWS]) if row != PIXELS]
    if not METHODS.keys().isdisjoint(chosen):
        require("lightly", extra=EXTRA)
    count = (QUICK_EPOCHS if quick else OURS["epochs"]) if epochs is None else epochs
    numbers = choose_seeds(seeds, quick=quick)
    opened = _open(data, data_root, quick, track)
    classifiers = Classifiers(tuple(ACCURACIES))
    settings = {
        "data": data,
        "quick": quick,
        "epochs": count,
        **opened.settings,
        **classifiers.settings,
    }
    reproduction = Reproduction(out, "recipes", settings, track=track)

    def classify(encoder: nn.Module, seed: int) -> dict[str, float]:
        return classifiers.score(task_on(encoder, *opened.split(seed), seed, track))

    def cell(row: str, seed: int) -> Cell:
        own = QUICK_OURS if quick and row == "nearfar" else {}
        config = ROWS[row](count, seed=seed, **opened.choices, **own)

        def measure() -> dict[str, float]:
            train, test = opened.split(seed)
            objective = partial(Baseline, row) if row in METHODS else None
            folder = reproduction.train(cell_name(row, seed), train, config, [count], objective)
            network = network_after(folder, count)
            error = {} if row in METHODS else {"pixel_error": pixel_error(network, test, track)}
            return {
                **classify(network.encoder, seed),
                **error,
                "training_seconds": training_seconds(folder, count),
            }

        settings = {"row": row, "seed": seed, "config": asdict(config)}
        if row in METHODS:
            settings["lightly"] = version("lightly")
            settings["method"] = METHODS[row].settings(config.embedding_size)
        return Cell(cell_name(row, seed), settings, measure)

    def pixels(seed: int) -> Cell:
        settings = {"row": PIXELS, "seed": seed}
        return Cell(cell_name(PIXELS, seed), settings, lambda: classify(nn.Flatten(), seed))

    # Seed after seed, so that a table of fewer seeds is whole when it is interrupted.
    trained = [cell(row, seed) for seed, row in product(numbers, chosen)]
    splits = numbers[:1] if opened.fixed else numbers
    measured = reproduction.measure([*map(pixels, splits), *trained])
    over = {PIXELS: splits, **dict.fromkeys(chosen, numbers)}
    return _write(reproduction, measured, over, numbers)


def _open(name: str, data_root: Path | None, quick: bool, track: Track) -> Data:
    if name == "mnist":
        return _digits(data_root, quick)
    if name == "caltech":
        return _photographs(data_root, quick, track)
    raise NearfarError(f"data {name!r} are unknown: expected mnist or caltech")


def _digits(data_root: Path | None, quick: bool) -> Data:
    source = "mnist5k" if quick else "mnist"
    train, test = (
        open_images(f"{source}:{part}", data_root=data_root) for part in ("train", "test")
    )
    settings = {"train": fingerprint(train), "test": fingerprint(test)}
    return Data(settings, lambda seed: (train, test), True, digits.choices(quick=quick))


def _photographs(data_root: Path | None, quick: bool, track: Track) -> Data:
    images = caltech101.of_classes(caltech101.CLASSES, data_root, quick=quick, track=track)
    settings = {"classes": caltech101.CLASSES, "images": fingerprint(images)}
    choices = {"batch_size": PHOTOGRAPHS_BATCH_SIZE}
    return Data(settings, lambda seed: caltech101.split(images, seed), False, choices)


def _write(
    reproduction: Reproduction,
    measured: Mapping[str, Measured],
    seeds: Mapping[str, Sequence[int]],
    numbers: Sequence[int],
) -> str:
    """Write the table in its three forms, of rows with their seeds; return it as Markdown."""
    values = {
        key: {
            row: over_seeds(measured, row, key, numbers)
            for row, numbers in seeds.items()
            if key in measured[cell_name(row, 0)]["result"]
        }
        for key in COLUMNS
    }
    shown = {key: _shown(COLUMNS[key], found) for key, found in values.items()}
    text = markdown_table(
        ["", *(column.title for column in COLUMNS.values())],
        [[row, *(shown[key].get(row, BLANK) for key in COLUMNS)] for row in seeds],
        _notes(reproduction.settings, measured, numbers),
    )
    summary = {
        row: {key: summarize(found[row]) for key, found in values.items() if row in found}
        for row in seeds
    }
    panels = {
        column.title: [Dot(row, each) for row, each in values[key].items()]
        for key, column in ACCURACIES.items()
    }
    reproduction.write(measured, summary, text, dot_plot(panels, percent=True))
    return text


def _shown(column: Column, values: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Return the cells of a column, in bold the best and those that are not told from it.

    These are within one standard deviation of its mean, the larger of both, or look the same.
    """
    if not values:
        return {}
    spreads = {row: spread(found) for row, found in values.items()}
    looks = {row: column.show([found.mean]) for row, found in spreads.items()}
    first = column.best(spreads, key=lambda row: spreads[row].mean)
    best = spreads[first]

    def is_best(row: str) -> bool:
        noise = max(spreads[row].std or 0.0, best.std or 0.0)
        return looks[row] == looks[first] or abs(spreads[row].mean - best.mean) <= noise

    return {
        row: f"**{column.show(found)}**" if is_best(row) else column.show(found)
        for row, found in values.items()
    }


def _notes(
    settings: Mapping[str, Any], measured: Mapping[str, Measured], seeds: Sequence[int]
) -> list[str]:
    """Say what a reader of the table has to know."""
    if settings["data"] == "mnist":
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
        f"Accuracy in %, {seeds_note(seeds)}; in bold, the best and what is within a standard "
        f"deviation of it. {images}.",
        f"{settings['epochs']} epochs each, without labels. All rows but paper have nearfar's "
        f"encoder, batch size, optimizer and schedule of learning rates; {', '.join(METHODS)} its "
        "views and temperature, too, with losses and heads of lightly.",
        "The settings of nearfar were chosen by SVMs on MNIST's training digits, never by test "
        "digits or photographs. What the other rows do not share with it was not tuned.",
        f"L-SVM: the best C of {scores.LINEAR_CS} on a fifth of the training images. R-SVM: "
        f"C = {scores.RBF_C:g}, γ = {scores.RBF_GAMMA:g}. {scores.NEIGHBORS}-NN: by cosine.",
        "Mean squared pixel error on the test images, where there is a decoder, and minutes of "
        f"training, on {machines(measured)}.",
    ]
