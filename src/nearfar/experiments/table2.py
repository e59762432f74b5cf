"""Table 2: transfer of AlexNet, pre-trained without labels, to other tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from nearfar.config import RelationalObjective, TrainConfig, configure, recipe
from nearfar.data import Images, Subset, default_data_root, open_images
from nearfar.errors import NearfarError
from nearfar.experiments.cells import Column, Key, Papers, Results
from nearfar.experiments.configs import AUTOENCODER
from nearfar.experiments.rows import Row, train_for
from nearfar.experiments.runner import Runner, fingerprint
from nearfar.experiments.statistics import seeds_note
from nearfar.experiments.table import Table
from nearfar.experiments.transfers import (
    FULL,
    QUICK,
    SMALL,
    TaskSizes,
    TransferTask,
    detection,
    few_labels,
    find_tasks,
    segmentation,
)
from nearfar.models import BackboneEncoder, draw_kmeans_rows, initialize_by_kmeans
from nearfar.runs import make_network
from nearfar.transfer import write_classes, write_scenes

#: AlexNet has no batch normalization, and needs a lower learning rate than our own encoders.
LR = 3e-4
QUICK_IMAGES = 24


@dataclass(frozen=True, kw_only=True)
class TransferRow(Row):
    """Row for a pre-trained AlexNet or, without `config`, for an AlexNet with initial weights.

    Parameters
    ----------
    initialization : {"random", "kmeans"}
        Method that initializes the weights.
    """

    initialization: Literal["random", "kmeans"] = "random"


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Size of the experiment: images, network and tasks.

    Parameters
    ----------
    options : mapping
        Options shared by all pre-training runs.
    sizes : TaskSizes
        Image sizes and fine-tuning schedules of the tasks.
    relational : mapping
        Additional options for pre-training with the relational objective.
    folder : Path, optional
        Folder of the images, relative to the data root. Default: synthetic scenes.
    fingerprint : bool
        Whether to record a checksum of the images in the settings.
    """

    options: Mapping[str, Any]
    sizes: TaskSizes
    relational: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    fingerprint: bool = True


#: The paper's settings where stated (K = 400), otherwise common defaults. A checksum of
#: ImageNet would take an hour.
WHOLE = Extent(
    options={
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
    fingerprint=False,
)
#: FC6 and FC7 have a quarter and an eighth of AlexNet's width, for 10,000 small images.
PART = Extent(
    options={"backbone": "alexnet", "widths": (1024,), "embedding_size": 512, "batch_size": 128},
    sizes=SMALL,
    folder=Path("tiny-imagenet-200", "train"),
)
MOMENT = Extent(
    options={
        "backbone": "alexnet",
        "widths": (32,),
        "embedding_size": 16,
        "batch_size": 16,
        "clusters": 2,
    },
    sizes=QUICK,
)


def _paper(*shares: float) -> Papers:
    columns = ("fc8", "fc6_8", "all", "detection", "segmentation")
    return dict(zip(columns, shares, strict=False))


_AUTOENCODER = recipe("paper", epochs=0, pretrain_lr=LR)
_NRE = recipe("paper", loss_weights=(0.5, 0.25, 0.25), pretrain_lr=LR)
_NEARFAR = recipe("nearfar", backbone="alexnet", lr=LR, pixel_weight=100.0, identity_prob=0.0)

ROWS = {
    "random": TransferRow(),
    "kmeans": TransferRow(initialization="kmeans", paper=_paper(0.320, 0.392, 0.566, 0.456, 0.326)),
    "autoencoder": TransferRow(config=_AUTOENCODER, paper=_paper(0.248, 0.160, 0.538, 0.419)),
    "NRE": TransferRow(config=_NRE, paper=_paper(0.559, 0.712, 0.744, 0.547, 0.511)),
    "nearfar": TransferRow(config=_NEARFAR),
    "autoencoder-kmeans": TransferRow(config=_AUTOENCODER, initialization="kmeans"),
    "NRE-kmeans": TransferRow(config=_NRE, initialization="kmeans"),
    "nearfar-kmeans": TransferRow(config=_NEARFAR, initialization="kmeans"),
}


@dataclass(frozen=True)
class TransferData:
    """Images for pre-training, transfer tasks by name, and settings that identify both."""

    images: Images
    tasks: Mapping[str, TransferTask]
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TransferTable(Table[TransferRow, TransferData]):
    """Table of pre-trained AlexNets, with one column per score of a transfer task.

    Parameters
    ----------
    epochs : int
        Total number of pre-training epochs, ≥ 2.
    extent : Extent
        Images, network and tasks.
    """

    row_type: ClassVar[type] = TransferRow

    epochs: int
    extent: Extent
    part: str = "task"

    def open(self, runner: Runner) -> TransferData:
        """See `Table.open`."""
        if self.epochs < 2:
            raise NearfarError(f"epochs={self.epochs}: expected at least 2")
        images, tasks = (
            self._generated(runner) if self.extent.folder is None else self._real(runner)
        )
        settings = {
            "epochs": self.epochs,
            "pretraining": fingerprint(images)
            if self.extent.fingerprint
            else {"source": images.name, "images": len(images)},
            "tasks": {name: task.settings for name, task in tasks.items()},
        }
        return TransferData(images, tasks, settings)

    def columns(self, data: TransferData) -> list[Column]:
        """See `Table.columns`."""
        return [column for task in data.tasks.values() for column in task.columns]

    def config(self, key: Key) -> TrainConfig | None:
        """Return the pre-training configuration of a cell, or None if there is no pre-training."""
        row = self.rows[key.row]
        if row.config is None:
            return None
        related = row.config.method == RelationalObjective.name
        options = {
            **self.extent.options,
            **(self.extent.relational if related else {}),
            "weights": row.initialization,
        }
        return train_for(row.config, self.epochs, seed=key.seed, **options)

    def describe(self, runner: Runner, data: TransferData, key: Key) -> dict[str, Any]:
        """See `Table.describe`."""
        config = self.config(key)
        if config is None:
            return {"initialization": self.rows[key.row].initialization}
        return {"config": config.to_dict()}

    def training(self, key: Key) -> str | None:
        """See `Table.training`."""
        return None if self.rows[key.row].config is None else Key(key.row, key.seed).name

    def measure(self, runner: Runner, data: TransferData, key: Key) -> Mapping[str, Any]:
        """See `Table.measure`."""
        task = data.tasks[str(key.part)]
        return task.measure(self._backbone(runner, data.images, key), key.seed)

    def notes(self, runner: Runner, data: TransferData, results: Results) -> list[str]:
        """See `Table.notes`."""
        pretraining = data.settings["pretraining"]
        return [
            f"In %, {seeds_note(self.seeds)}; in parentheses, the paper's, pre-trained on "
            "ImageNet.",
            f"AlexNet pre-trained for {self.epochs} epochs on {pretraining['images']:,} images of "
            f"{pretraining['source']}, without labels.",
            *(f"{task.note}." for task in data.tasks.values()),
            f"On {results.machines}.",
        ]

    def _backbone(self, runner: Runner, images: Images, key: Key) -> BackboneEncoder:
        """Return the encoder of a cell, pre-trained or with initial weights."""
        config, seed = self.config(key), key.seed
        if config is not None:
            network = runner.train(Key(key.row, seed).name, images, config).network().cpu()
        else:
            options = {**self.extent.options, "seed": seed}
            network = make_network(configure(options, base=AUTOENCODER), images.shape)
        encoder = network.encoder.eval()
        assert isinstance(encoder, BackboneEncoder)  # noqa: S101 - for the type alone
        if config is None and self.rows[key.row].initialization == "kmeans":
            sample = Subset(images, draw_kmeans_rows(len(images), seed))
            initialize_by_kmeans(encoder, sample, seed)
        return encoder

    def _real(self, runner: Runner) -> tuple[Images, dict[str, TransferTask]]:
        """Return the images and the tasks, read from the data sets in the data root."""
        root, sizes = runner.data_root or default_data_root(), self.extent.sizes
        folder = self.extent.folder or Path()
        if not (root / folder).is_dir():
            raise NearfarError(
                f"{str(root / folder)!r} does not exist: put images to pre-train on there, or "
                "give --data-root"
            )
        images = open_images(
            root / folder, size=sizes.images, channels=3, strict=True, progress=runner.track
        )
        images.name = str(folder)
        tasks = dict(find_tasks(root, runner.folder / "proposals", sizes, runner.track))
        if not tasks:
            raise NearfarError(
                f"{str(root)!r} holds none of caltech101, bccd, camvid and VOCdevkit to transfer to"
            )
        return images, tasks

    def _generated(self, runner: Runner) -> tuple[Images, dict[str, TransferTask]]:
        """Return the images and the tasks, generated as small synthetic data sets."""
        scratch, sizes, track = runner.scratch or runner.folder, self.extent.sizes, runner.track
        devkit = write_scenes(scratch / "scenes", QUICK_IMAGES)
        classes = open_images(write_classes(scratch / "classes", QUICK_IMAGES), size=sizes.images)
        images = open_images(devkit / "JPEGImages", size=sizes.images)
        classes.name, images.name = "classes", "scenes"
        splits, proposals = ("train", "test"), runner.folder / "proposals"
        return images, {
            "classes": few_labels("classes", "shapes", classes, sizes, track),
            "boxes": detection(
                "boxes", devkit, splits, sizes=sizes, proposals=proposals, track=track
            ),
            "masks": segmentation("masks", devkit, splits, sizes=sizes, track=track),
        }


TABLE2 = TransferTable(
    name="table2", rows=ROWS, epochs=6, extent=PART, quick={"epochs": 2, "extent": MOMENT}
)
#: The full AlexNet on ImageNet, and the tasks at their standard sizes and schedules.
TABLE2_FULL = replace(TABLE2, epochs=20, extent=WHOLE, quick=None)
