"""Table 1: SVMs on embeddings of MNIST by the autoencoder family, after 40 and 100 epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from nearfar.data import Images
from nearfar.errors import NearfarError
from nearfar.evaluation import BLANK, scores
from nearfar.experiments import digits
from nearfar.experiments.configs import plain, relational
from nearfar.experiments.metrics import Classifiers, network_after, pixel_error, task_on
from nearfar.experiments.runner import Cell, Measured, Reproduction, fingerprint, training_seconds
from nearfar.experiments.statistics import (
    LEVEL,
    PIXELS,
    answer,
    cell_name,
    choose_rows,
    choose_seeds,
    machines,
    minutes,
    number,
    over_seeds,
    p_greater,
    percent,
    seeds_note,
    summarize,
)
from nearfar.progress import Track, silent
from nearfar.report import markdown_table
from nearfar.report.figures import Dot, dot_plot
from nearfar.training.config import TrainConfig

COLUMNS = {"linear_svm": "L-SVM", "rbf_svm": "R-SVM"}
EPOCHS, QUICK_EPOCHS = (40, 100), (2, 5)
#: The paper's claim is that the first is above the second.
BETTER, BASE = "NRE", "autoencoder"


def _paper(*accuracies: float) -> dict[tuple[str, int], float]:
    """Return the accuracies of a row of the paper by column."""
    return dict(zip(product(COLUMNS, EPOCHS), accuracies, strict=True))


@dataclass(frozen=True)
class Row:
    """A kind of training.

    Parameters
    ----------
    config : callable
        Gives the configuration for so many epochs in all, and further choices.
    paper : mapping
        The paper's accuracies, by column and epochs.
    prefix : bool
        Whether a short training is the beginning of a longer one, which then serves for both.
    """

    config: Callable[..., TrainConfig]
    paper: Mapping[tuple[str, int], float]
    prefix: bool = True

    def trained(self, epochs: int, longest: int) -> int:
        """Return how many epochs are trained for a measurement after some of them."""
        return longest if self.prefix else epochs


_DENOISING = _paper(0.942, 0.936, 0.954, 0.964)
_CONTEXT = _paper(0.970, 0.974, 0.978, 0.981)

ROWS = {
    "autoencoder": Row(plain, _paper(0.969, 0.969, 0.961, 0.972)),
    "denoising-masking": Row(partial(plain, pretext="denoising", noise="masking"), _DENOISING),
    "denoising-gaussian": Row(partial(plain, pretext="denoising", noise="gaussian"), _DENOISING),
    "context-center": Row(partial(plain, pretext="context", holes="center"), _CONTEXT),
    "context-random": Row(partial(plain, pretext="context", holes="random"), _CONTEXT),
    "split-brain": Row(partial(plain, pretext="split-brain"), _paper(0.972, 0.973, 0.975, 0.979)),
    "NRE": Row(relational, _paper(0.977, 0.978, 0.981, 0.984), prefix=False),
}


def table1(
    out: Path,
    *,
    data_root: Path | None = None,
    epochs: Sequence[int] = (),
    seeds: int | None = None,
    rows: Sequence[str] = (),
    rbf_samples: int | None = None,
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Train every row, measure it, and write `table1.json`, `table1.md` and `table1.png`.

    Parameters
    ----------
    out : Path
        The folder to write to, or to continue in.
    epochs : sequence of int
        After how many epochs in all to measure; 40 and 100 if none are given, 2 and 5 if quick.
    seeds : int, optional
        How many trainings of each row; 3 if not given, 2 if quick.
    rows : sequence of str
        Some of `ROWS`; all if none are given. Raw pixels are always there.
    rbf_samples : int, optional
        The most training images that the RBF SVM learns from; all if not given.
    quick : bool
        Whether to take the 5,000 digits that need no network.

    Returns
    -------
    str
        The table as Markdown.

    Raises
    ------
    NearfarError
        If a row is unknown, there are no seeds or epochs, or the folder was begun with other
        choices.
    """
    chosen = [row for row in choose_rows(rows, [PIXELS, *ROWS]) if row != PIXELS]
    counts = sorted(set(epochs or (QUICK_EPOCHS if quick else EPOCHS)))
    if counts[0] < 1:
        raise NearfarError(f"epochs={counts[0]}: expected at least 1")
    numbers = choose_seeds(seeds, quick=quick)
    train, test = digits.for_testing(data_root, quick=quick)
    classifiers = Classifiers(tuple(COLUMNS), _check_samples(rbf_samples, train))
    settings = {
        "quick": quick,
        "epochs": counts,
        "train": fingerprint(train),
        "test": fingerprint(test),
        **classifiers.settings,
    }
    reproduction = Reproduction(out, "table1", settings, track=track)

    def classify(encoder: nn.Module, seed: int) -> dict[str, float]:
        return classifiers.score(task_on(encoder, train, test, seed, track))

    def cell(name: str, count: int, seed: int) -> Cell:
        row = ROWS[name]
        length = row.trained(count, max(counts))
        config = row.config(length, seed=seed, **digits.choices(quick=quick))
        run = cell_name(f"{name}-{length}", seed)

        def measure() -> dict[str, float]:
            snapshots = [other for other in counts if row.trained(other, max(counts)) == length]
            folder = reproduction.train(run, train, config, snapshots)
            network = network_after(folder, count)
            return {
                **classify(network.encoder, seed),
                "pixel_error": pixel_error(network, test, track),
                "training_seconds": training_seconds(folder, count),
            }

        settings = {"row": name, "epochs": count, "seed": seed, "config": asdict(config)}
        return Cell(cell_name(f"{name}-{count}", seed), settings, measure, run)

    # Seed after seed, so that a table of fewer seeds is whole when it is interrupted.
    cells = [cell(name, count, seed) for seed, name, count in product(numbers, chosen, counts)]
    pixels = Cell(cell_name(PIXELS, 0), {"row": PIXELS}, lambda: classify(nn.Flatten(), 0))
    measured = reproduction.measure([pixels, *cells])
    return _write(reproduction, measured, chosen, counts, numbers)


def _check_samples(samples: int | None, train: Images) -> int:
    classes = len(train.classes or ())
    if samples is not None and samples < classes:
        raise NearfarError(
            f"rbf_samples={samples}: expected at least one for each of {classes} classes"
        )
    return len(train) if samples is None else min(samples, len(train))


def _write(
    reproduction: Reproduction,
    measured: Mapping[str, Measured],
    rows: Sequence[str],
    counts: Sequence[int],
    seeds: Sequence[int],
) -> str:
    """Write the table in its three forms; return it as Markdown."""
    columns = {
        (key, count): f"{name}, {count} epochs"
        for (key, name), count in product(COLUMNS.items(), counts)
    }

    def values(row: str, key: str, count: int) -> list[float]:
        if row == PIXELS:
            return over_seeds(measured, PIXELS, key, [0])
        return over_seeds(measured, f"{row}-{count}", key, seeds)

    shown: dict[str, Mapping[tuple[str, int], float]] = {PIXELS: {}}
    shown |= {row: ROWS[row].paper for row in rows}
    summary: dict[str, Any] = {
        row: {
            title: summarize(values(row, *column), paper.get(column))
            for column, title in columns.items()
        }
        for row, paper in shown.items()
    }
    panels = {
        title: [Dot(row, values(row, *column), paper.get(column)) for row, paper in shown.items()]
        for column, title in columns.items()
    }
    lines = [
        [
            row,
            *(percent(values(row, *column), paper.get(column)) for column in columns),
            BLANK if row == PIXELS else number(values(row, "pixel_error", max(counts)), 4),
            BLANK if row == PIXELS else minutes(values(row, "training_seconds", max(counts))),
        ]
        for row, paper in shown.items()
    ]
    text = markdown_table(
        ["", *columns.values(), "pixel error", "minutes"],
        lines,
        _notes(reproduction.settings, measured, counts, seeds),
    )
    if {BETTER, BASE} <= shown.keys():
        pairs = {
            title: (values(BETTER, *column), values(BASE, *column))
            for column, title in columns.items()
        }
        summary[f"{BETTER} − {BASE}"], judged = _judge(pairs)
        text += f"\n{judged}"
    reproduction.write(measured, summary, text, dot_plot(panels, columns=len(counts), percent=True))
    return text


def _judge(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> tuple[dict[str, Any], str]:
    """Judge by column whether one row is above another; return what JSON holds, and a table."""
    summary: dict[str, Any] = {}
    lines = []
    for title, (above, below) in pairs.items():
        p = p_greater(above, below)
        found = [a - b for a, b in zip(above, below, strict=True)]
        summary[title] = {**summarize(found), "p": p, "above_noise": answer(p)}
        lines.append([title, percent(found), BLANK if p is None else f"{p:.2g}", answer(p)])
    rule = (
        f"Differences of the same seed, in points. They are more than the noise of seeds if p < "
        f"{LEVEL:g} by a one-sided paired t-test over seeds, which one seed cannot tell."
    )
    header = [f"{BETTER} − {BASE}", "difference", "p", "above the noise"]
    return summary, markdown_table(header, lines, [rule])


def _notes(
    settings: Mapping[str, Any],
    measured: Mapping[str, Measured],
    counts: Sequence[int],
    seeds: Sequence[int],
) -> list[str]:
    """Say what a reader of the table has to know."""
    train, test = settings["train"], settings["test"]
    return [
        f"Accuracy in %, {seeds_note(seeds)}; in parentheses, the paper's. "
        f"{train['images']:,} training images of {train['source']}, {test['images']:,} test "
        f"images of {test['source']}.",
        f"L-SVM: the best C of {scores.LINEAR_CS} on a fifth of the training images, each "
        "dimension to variance 1. R-SVM: C = "
        f"{scores.RBF_C:g}, γ = {scores.RBF_GAMMA:g}, all dimensions together to variance "
        f"{scores.TOTAL_VARIANCE:g}, {settings['rbf_svm']['train_images']:,} training images.",
        f"Mean squared pixel error on the test images, and minutes of training, for {max(counts)} "
        f"epochs, on {machines(measured)}.",
    ]
