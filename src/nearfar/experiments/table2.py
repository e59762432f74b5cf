"""Table 2: AlexNet, pre-trained without labels, transferred to other tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nearfar.data import Images, Subset, default_data_root, open_images
from nearfar.errors import NearfarError
from nearfar.experiments.configs import ours, plain, relational
from nearfar.experiments.metrics import network_after
from nearfar.experiments.runner import Cell, Measured, Reproduction, fingerprint
from nearfar.experiments.statistics import (
    cell_name,
    choose_rows,
    choose_seeds,
    machines,
    over_seeds,
    percent,
    seeds_note,
    summarize,
)
from nearfar.experiments.synthetic_voc import write_classes, write_scenes
from nearfar.experiments.transfers import (
    FULL,
    PAPER,
    QUICK,
    SMALL,
    Sizes,
    Task,
    detection,
    few_labels,
    find_tasks,
    segmentation,
)
from nearfar.models import Architecture, Backbone, draw_kmeans_rows, initialize_by_kmeans
from nearfar.progress import Track, silent
from nearfar.report import markdown_table
from nearfar.report.figures import Dot, dot_plot
from nearfar.training.config import TrainConfig
from nearfar.transfer import new_backbone

#: AlexNet has no batch normalization, and learns with smaller steps than our own encoders.
LR = 3e-4
QUICK_IMAGES = 24


@dataclass(frozen=True)
class Extent:
    """How much is trained, and on what.

    Parameters
    ----------
    epochs : int
        Of pre-training, in all.
    choices : mapping
        What all pre-trainings have in common.
    sizes : Sizes
        Of the tasks.
    relational : mapping
        What the pre-training by the paper's relations has beside `choices`.
    folder : Path, optional
        Where in the data root the images for pre-training are; generated scenes if not given.
    """

    epochs: int
    choices: Mapping[str, Any]
    sizes: Sizes
    relational: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None


#: As in the paper, where it says how (K = 400), and what is usual elsewhere.
WHOLE = Extent(
    epochs=20,
    choices={
        "backbone": "alexnet",
        "widths": (4096,),
        "embedding_size": 4096,
        "batch_size": 256,
        "clusters": 400,
        "precision": "bf16",
    },
    sizes=FULL,
    relational={"bank": "disk"},
    folder=Path("imagenet", "train"),
)
#: FC6 and FC7 have a quarter and an eighth of AlexNet's units: there are 10,000 small images.
PART = Extent(
    epochs=6,
    choices={"backbone": "alexnet", "widths": (1024,), "embedding_size": 512, "batch_size": 128},
    sizes=SMALL,
    folder=Path("tiny-imagenet-200", "train"),
)
MOMENT = Extent(
    epochs=2,
    choices={
        "backbone": "alexnet",
        "widths": (32,),
        "embedding_size": 16,
        "batch_size": 16,
        "clusters": 2,
    },
    sizes=QUICK,
)


def _autoencoder(epochs: int, **choices: Any) -> TrainConfig:
    return plain(epochs, pretrain_lr=LR, **choices)


def _paper(epochs: int, **choices: Any) -> TrainConfig:
    return relational(epochs, weights=(0.5, 0.25, 0.25), pretrain_lr=LR, **choices)


def _ours(epochs: int, **choices: Any) -> TrainConfig:
    return ours(epochs, network="plain", lr=LR, pixel_weight=100.0, unchanged_share=0.0, **choices)


_PRETRAINED = {"autoencoder": _autoencoder, "NRE": _paper, "nearfar": _ours}
#: How each row is pre-trained for so many epochs in all: from random weights, or from those of the
#: row `kmeans`.
PRETRAINED: dict[str, Callable[..., TrainConfig]] = _PRETRAINED | {
    f"{name}-kmeans": partial(make, initialization="kmeans") for name, make in _PRETRAINED.items()
}
ROWS = ("random", "kmeans", *PRETRAINED)


def table2(
    out: Path,
    *,
    data_root: Path | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    rows: Sequence[str] = (),
    full: bool = False,
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Pre-train every row, transfer it to every task, and write table and figure.

    Parameters
    ----------
    out : Path
        The folder to write to, or to continue in.
    data_root : Path, optional
        Holds ``tiny-imagenet-200``, or ``imagenet`` if full, and of ``caltech101``, ``bccd``,
        ``camvid`` and ``VOCdevkit`` whichever are at hand.
    epochs : int, optional
        Of pre-training, in all; 6 if not given, 20 if full, 2 if quick.
    seeds : int, optional
        How many pre-trainings of each row; 3 if not given, 2 if quick.
    rows : sequence of str
        Some of `ROWS`; all if none are given.
    full : bool
        Whether to take the whole AlexNet, ImageNet, and the tasks' own sizes and schedules.
    quick : bool
        Whether to take some generated scenes, and to learn for a moment.

    Returns
    -------
    str
        The table as Markdown.

    Raises
    ------
    NearfarError
        If a row is unknown, data are missing, both full and quick are asked for, or the folder was
        begun with other choices.
    """
    chosen = choose_rows(rows, ROWS)
    numbers = choose_seeds(seeds, quick=quick)
    if full and quick:
        raise NearfarError("full and quick: expected one of them, or neither")
    extent = WHOLE if full else MOMENT if quick else PART
    total = extent.epochs if epochs is None else epochs
    if total < 2:
        raise NearfarError(f"epochs={total}: expected at least 2, half of them for the relations")
    # Made anew every time, and the same.
    with TemporaryDirectory() as folder:
        images, tasks = (
            _generated(Path(folder), out, track)
            if extent.folder is None
            else _real(data_root or default_data_root(), extent.folder, extent.sizes, out, track)
        )
        choices = extent.choices
        architecture = Architecture(
            images.shape, choices["embedding_size"], choices["widths"], backbone=choices["backbone"]
        )
        settings = {
            "quick": quick,
            "epochs": total,
            # Reading all of ImageNet for a checksum would take an hour.
            "pretraining": {"source": images.name, "images": len(images)}
            if full
            else fingerprint(images),
            "tasks": {task.name: task.settings for task in tasks},
        }
        reproduction = Reproduction(out, "table2", settings, track=track)

        def config(row: str, seed: int) -> TrainConfig:
            own = extent.relational if row.startswith("NRE") else {}
            return PRETRAINED[row](total, seed=seed, **choices, **own)

        def pretrained(row: str, seed: int) -> Backbone:
            if row not in PRETRAINED:
                backbone = new_backbone(architecture, seed)
                if row == "kmeans":
                    sample = Subset(images, draw_kmeans_rows(len(images), seed))
                    initialize_by_kmeans(backbone, sample, seed)
                return backbone
            run = reproduction.train(cell_name(row, seed), images, config(row, seed), [total])
            encoder = network_after(run, total).cpu().encoder
            assert isinstance(encoder, Backbone)  # noqa: S101 - for the type alone
            return encoder

        def cell(row: str, task: Task, seed: int) -> Cell:
            settings = {"row": row, "task": task.name, "seed": seed}
            if row in PRETRAINED:
                settings["config"] = asdict(config(row, seed))
            name = cell_name(f"{row}-{task.name}", seed)
            return Cell(
                name,
                settings,
                lambda: task.measure(pretrained(row, seed), seed),
                cell_name(row, seed) if row in PRETRAINED else None,
            )

        # Seed after seed, so that a table of fewer seeds is whole when it is interrupted.
        cells = [cell(row, task, seed) for seed, row, task in product(numbers, chosen, tasks)]
        return _write(reproduction, reproduction.measure(cells), chosen, tasks, numbers)


def _real(
    root: Path, folder: Path, sizes: Sizes, out: Path, track: Track
) -> tuple[Images, list[Task]]:
    """Open the data sets that are at hand."""
    if not (root / folder).is_dir():
        raise NearfarError(
            f"{str(root / folder)!r} does not exist: put images to pre-train on there, or "
            "give --data-root"
        )
    images = open_images(root / folder, size=sizes.images, channels=3, strict=True, progress=track)
    images.name = str(folder)
    tasks = list(find_tasks(root, out / "proposals", sizes, track))
    if not tasks:
        raise NearfarError(
            f"{str(root)!r} holds none of caltech101, bccd, camvid and VOCdevkit to transfer to"
        )
    return images, tasks


def _generated(folder: Path, out: Path, track: Track) -> tuple[Images, list[Task]]:
    """Make small data sets."""
    devkit = write_scenes(folder / "scenes", QUICK_IMAGES)
    classes = open_images(write_classes(folder / "classes", QUICK_IMAGES), size=QUICK.images)
    images = open_images(devkit / "JPEGImages", size=QUICK.images)
    classes.name, images.name = "classes", "scenes"
    splits = ("train", "test")
    return images, [
        few_labels("classes", "shapes", classes, QUICK, track),
        detection("boxes", devkit, splits, out / "proposals", QUICK, track),
        segmentation("masks", devkit, splits, QUICK, track),
    ]


def _write(
    reproduction: Reproduction,
    measured: Mapping[str, Measured],
    rows: Sequence[str],
    tasks: Sequence[Task],
    seeds: Sequence[int],
) -> str:
    """Write the table in its three forms; return it as Markdown."""
    columns = [(task, key) for task in tasks for key in task.columns]

    def values(row: str, task: Task, key: str) -> list[float]:
        return over_seeds(measured, f"{row}-{task.name}", key, seeds)

    def paper(row: str, task: Task, key: str) -> float | None:
        return PAPER.get(row, {}).get(task.paper.get(key, ""))

    lines = [
        [row, *(percent(values(row, *column), paper(row, *column)) for column in columns)]
        for row in rows
    ]
    summary = {
        row: {
            f"{task.name}-{key}": summarize(values(row, task, key), paper(row, task, key))
            for task, key in columns
        }
        for row in rows
    }
    pretraining = reproduction.settings["pretraining"]
    notes = [
        f"In %, {seeds_note(seeds)}; in parentheses, the paper's, pre-trained on ImageNet.",
        f"AlexNet pre-trained for {reproduction.settings['epochs']} epochs on "
        f"{pretraining['images']:,} images of {pretraining['source']}, without labels.",
        *(f"{task.note}." for task in tasks),
        f"On {machines(measured)}.",
    ]
    text = markdown_table(["", *(task.columns[key] for task, key in columns)], lines, notes)
    panels = {
        task.columns[key]: [Dot(row, values(row, task, key), paper(row, task, key)) for row in rows]
        for task, key in columns
    }
    reproduction.write(measured, summary, text, dot_plot(panels, percent=True))
    return text
