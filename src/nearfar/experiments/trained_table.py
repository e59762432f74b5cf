"""Tables of trained networks: accuracy of embeddings, pixel error and training time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from nearfar.config import TrainConfig
from nearfar.errors import NearfarError
from nearfar.evaluation import LabeledEmbeddings
from nearfar.experiments.cells import Column, Key, Part, Results
from nearfar.experiments.metrics import CLASSIFIERS, Classifiers, pixel_error, task_on
from nearfar.experiments.rows import Row, train_for
from nearfar.experiments.runner import Runner, Training
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import compare, minutes, number
from nearfar.experiments.table import Report, Table
from nearfar.experiments.unscaled import total_variance
from nearfar.models import resolve_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Label of the row without a network.
PIXELS = "pixels"
PIXEL_ERROR = Column("pixel_error", "pixel error", number, plot=False, last=True)
MINUTES = Column("training_seconds", "minutes", minutes, plot=False, last=True)
TOTAL_VARIANCE = Column("total_variance", "variance", partial(number, decimals=1), plot=False)

Notes = Callable[["TrainedTable", Runner, Splits, Results], Sequence[str]]
Figures = Callable[["TrainedTable", Runner, Splits, Results], "dict[str, Figure]"]


@dataclass(frozen=True, kw_only=True)
class TrainedTable(Table[Row, Splits]):
    """Table of trained networks, of encoders without training, and of raw pixels.

    Parameters
    ----------
    splits : callable
        Function that takes the runner and returns the images, as `Splits`.
    shown : tuple of Column
        Columns. The key of each column is one of these: the name of a classifier (see
        `Classifiers`), "total_variance" (of the embeddings of training images), "pixel_error" (mean
        squared error on test images), or "training_seconds".
    epochs : int or tuple of int
        Total number of epochs, ≥ 1. If several are given, rows are measured after each number of
        epochs, with one column for each; columns with `Column.last` appear only once.
    note : callable
        Function that takes the table, the runner, the splits and the results, and returns the notes
        below the table.
    draw : callable, optional
        Function that takes the same arguments as `note`, and returns the figures by file name.
        Default: a dot plot.
    rbf_samples : int, optional
        Maximum number of training images for the RBF SVM and for SVMs on unscaled embeddings.
        Default: all.
    compared : tuple of str, optional
        Labels of two rows. If both are measured, a significance test of their difference is
        reported below the table.
    """

    row_type: ClassVar[type] = Row

    splits: Callable[[Runner], Splits]
    shown: tuple[Column, ...]
    epochs: int | tuple[int, ...]
    note: Notes
    draw: Figures | None = None
    rbf_samples: int | None = None
    compared: tuple[str, str] | None = None
    part: str = "epochs"

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of epochs after which the networks are measured, in ascending order."""
        several = self.epochs if isinstance(self.epochs, tuple) else (self.epochs,)
        return tuple(sorted(set(several)))

    def open(self, runner: Runner) -> Splits:
        """See `Table.open`."""
        if isinstance(self.epochs, tuple) and self.counts[0] < 1:
            raise NearfarError(f"epochs={self.counts[0]}: expected at least 1")
        splits = self.splits(runner)
        classifiers = self.classifiers(splits)
        epochs = self.counts if isinstance(self.epochs, tuple) else self.epochs
        return replace(
            splits, settings={"epochs": epochs, **splits.settings, **classifiers.settings}
        )

    def classifiers(self, splits: Splits) -> Classifiers:
        """Return the classifiers that the columns need."""
        names = tuple(column.key for column in self.shown if column.key in CLASSIFIERS)
        samples = self.rbf_samples
        if splits.fixed and not {"linear_svm", "knn"}.issuperset(names):
            train, _ = splits.of(0)
            if samples is not None and samples < len(train.classes or ()):
                raise NearfarError(
                    f"rbf_samples={samples}: expected at least one for each of "
                    f"{len(train.classes or ())} classes"
                )
            samples = min(samples or len(train), len(train))
        return Classifiers(names, samples)

    def columns(self, data: Splits) -> list[Column]:
        """See `Table.columns`."""
        if not isinstance(self.epochs, tuple):
            return list(self.shown)
        return [
            replace(
                column,
                title=f"{column.title}, {count} epochs",
                part=count,
                paper=(column.key, count),
            )
            for column in self.shown
            if not column.last
            for count in self.counts
        ] + [replace(each, part=self.counts[-1]) for each in self.shown if each.last]

    def seeds_of(self, data: Splits, row: str) -> range:
        """See `Table.seeds_of`."""
        return range(1 if self.rows[row].config is None and data.fixed else self.seeds)

    def parts_of(self, data: Splits, row: str) -> Sequence[Part]:
        """See `Table.parts_of`."""
        return [None] if self.rows[row].config is None else super().parts_of(data, row)

    def config(self, runner: Runner, data: Splits, key: Key) -> TrainConfig | None:
        """Return the training configuration of a cell, or None if the row has no training."""
        row = self.rows[key.row]
        if row.config is None:
            return None
        options = {**data.options, **(row.quick if runner.quick else {})}
        return train_for(row.config, self._length(key), seed=key.seed, **options)

    def describe(self, runner: Runner, data: Splits, key: Key) -> dict[str, Any]:
        """See `Table.describe`."""
        config = self.config(runner, data, key)
        trained = {} if config is None else {"config": config.to_dict()}
        return {**trained, **self.rows[key.row].describe()}

    def training(self, key: Key) -> str:
        """See `Table.training`."""
        part = self._length(key) if isinstance(self.epochs, tuple) else None
        return Key(key.row, key.seed, part).name

    def train(self, runner: Runner, data: Splits, key: Key) -> Training:
        """Train the network of a cell, and return the completed training run."""
        config = self.config(runner, data, key)
        assert config is not None  # noqa: S101 - for the type alone
        snapshots = [count for count in self.counts if count <= self._length(key)]
        return runner.train(self.training(key), data.of(key.seed)[0], config, snapshots)

    def measure(self, runner: Runner, data: Splits, key: Key) -> Mapping[str, Any]:
        """See `Table.measure`."""
        train, test = data.of(key.seed)
        keys = {column.key for column in self.shown}
        if self.rows[key.row].config is None:
            encoder = self.rows[key.row].encoder().to(resolve_device("auto")).eval()
            return self._scores(data, task_on(encoder, train, test, key.seed, runner.track))
        training, epochs = self.train(runner, data, key), self._after(key)
        network, results = training.network(epochs), {}
        if not keys <= {PIXEL_ERROR.key, MINUTES.key}:
            task = task_on(network.encoder, train, test, key.seed, runner.track)
            results = self._scores(data, task)
        if PIXEL_ERROR.key in keys and self.rows[key.row].decoder:
            results[PIXEL_ERROR.key] = pixel_error(network, test, runner.track)
        if MINUTES.key in keys:
            results[MINUTES.key] = training.seconds(epochs)
        return results

    def notes(self, runner: Runner, data: Splits, results: Results) -> Sequence[str]:
        """See `Table.notes`."""
        return self.note(self, runner, data, results)

    def figures(self, runner: Runner, data: Splits, results: Results) -> dict[str, Figure]:
        """See `Table.figures`."""
        if self.draw is not None:
            return self.draw(self, runner, data, results)
        return super().figures(runner, data, results)

    def report(self, runner: Runner, data: Splits, results: Results) -> Report:
        """See `Table.report`."""
        report = super().report(runner, data, results)
        if self.compared is None or not {*self.compared} <= self.rows.keys():
            return report
        above, below = self.compared
        summary, text = compare(
            self.compared,
            {
                column.title: (
                    results.values(above, column.key, column.part),
                    results.values(below, column.key, column.part),
                )
                for column in self.columns(data)
                if column.plot
            },
        )
        return replace(
            report,
            text=f"{report.text}\n{text}",
            summary=report.summary | {f"{above} − {below}": summary},
        )

    def _scores(self, data: Splits, task: LabeledEmbeddings) -> dict[str, float]:
        """Return the scores of embeddings, by `Column.key`."""
        scores = self.classifiers(data).score(task)
        if TOTAL_VARIANCE in self.shown:
            scores[TOTAL_VARIANCE.key] = total_variance(task)
        return scores

    def _after(self, key: Key) -> int:
        """Return the number of epochs after which a cell is measured."""
        return self.counts[-1] if key.part is None else int(key.part)

    def _length(self, key: Key) -> int:
        """Return the number of epochs of the training run on which a cell is measured.

        With a single phase and a constant learning rate, a short run is identical to the start of a
        longer run. Therefore, one run is enough for all numbers of epochs.
        """
        config = self.rows[key.row].config
        alike = config and not config.optim.epochs and config.optim.lr_schedule == "constant"
        return self.counts[-1] if alike else self._after(key)
