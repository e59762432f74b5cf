"""``nearfar transfer``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from nearfar.cli.options import DATA_HELP, DataOptions, OverwriteFiles, Seed, bars
from nearfar.errors import NearfarError

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from nearfar.data import Images
    from nearfar.models import Architecture, Backbone
    from nearfar.progress import Bars
    from nearfar.transfer.devkit import Devkit
    from nearfar.transfer.schedule import Schedule

transfer = App(
    name="transfer",
    help=(
        "Fine-tune what was learned for a task with labels.\n\n"
        "The same commands and schedules take a run, published weights, or none at all."
    ),
)

Weights = Annotated[
    str,
    Parameter(
        help="A run trained with --backbone; a .safetensors file of torchvision's AlexNet, "
        "ResNet-18, ResNet-50 or ViT-S/16; the name of such weights, as "
        "AlexNet_Weights.IMAGENET1K_V1; random; or kmeans."
    ),
]
VOC_HELP = "A VOC devkit: the folder with JPEGImages in it, as VOCdevkit/VOC2007."
Voc = Annotated[Path, Parameter(help=VOC_HELP)]
#: Where `detect` keeps its boxes in --out, for another try.
PROPOSALS = "proposals"


@Parameter(name="*", group=Group("Training", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class Options:
    """What all tasks take; the defaults of the first five differ by task."""

    size: Annotated[int | None, Parameter(validator=Number(gte=16))] = None
    "Side that images are scaled to in pixels, the shorter one where they keep their shape."
    steps: int | None = None
    "How many batches to learn from."
    batch_size: int | None = None
    "Images in each."
    lr: float | None = None
    "AdamW's learning rate at its peak; it rises and falls in one cycle."
    weight_decay: float | None = None
    "Of AdamW."
    like: Path | None = None
    "A run whose network random and kmeans take, and no others; torchvision's AlexNet if not given."
    seed: Seed = 0
    device: str = "auto"
    overwrite: OverwriteFiles = False


@transfer.command
def classify(
    weights: Weights,
    data: Annotated[str, Parameter(help=f"{VOC_HELP} Or: {DATA_HELP}")],
    *,
    out: Path,
    protocols: tuple[Literal["linear", "fc", "all"], ...] = ("linear", "fc", "all"),
    splits: tuple[str, str] | None = None,
    test: str | None = None,
    labels_per_class: int | None = None,
    images: DataOptions = DataOptions(),
    options: Options = Options(),
) -> None:
    """Learn which classes an image shows.

    Of a VOC devkit an image may show several; mAP is by the official rules. Elsewhere it has one
    label, its sub-folder.

    **For example**

        nearfar transfer classify run VOCdevkit/VOC2007 --out classified
        nearfar transfer classify run photos --labels-per-class 5 --out few
        nearfar transfer classify random photos --like run --out baseline

    Parameters
    ----------
    out
        The folder to write to.
    protocols
        What is trained: a linear layer on the embeddings (linear), all fully connected layers (fc),
        or everything (all).
    splits
        TRAIN TEST, of a devkit; trainval test if not given.
    test
        Other data to test on, if not of a devkit; a fifth of each class if not given.
    labels_per_class
        Learn from so many images of each class only, if not of a devkit.
    """
    from nearfar.data import Subset
    from nearfar.report.transfer import draw_surest
    from nearfar.transfer import classification as task
    from nearfar.transfer.devkit import IMAGES, Devkit
    from nearfar.transfer.labeled import open_multiple, split_single

    if not protocols:
        raise NearfarError(f"no protocols: expected one or more of {', '.join(task.PROTOCOLS)}")
    work = _Work.begin(weights, out, options, task.SCHEDULE)
    size, track = options.size or max(work.architecture.shape[1:]), work.track
    for protocol in protocols:
        task.check_images(work.backbone, (3, size, size), protocol, work.schedule)
    if (Path(data) / IMAGES).is_dir():
        if test is not None or labels_per_class is not None:
            raise NearfarError(f"--test and --labels-per-class are not for a devkit as {data!r}")
        devkit, splits = Devkit.open(Path(data)), splits or ("trainval", "test")
        devkit.check_apart("Main", *splits)
        train, tested = (open_multiple(devkit, split, size, track) for split in splits)
    else:
        if splits is not None:
            raise NearfarError(f"--splits are those of a devkit, and {data!r} is none")
        shape: dict[str, Any] = {"size": size, "channels": 3}
        train, tested = split_single(
            images.open(data, track, **shape),
            None if test is None else images.open(test, track, **shape),
            labels_per_class=labels_per_class,
            seed=options.seed,
        )
    work.initialize(len(train.images), lambda rows: Subset(train.images, rows))
    rows: dict[str, dict[str, float]] = {}
    for protocol in protocols:
        scores = task.classify(
            work.backbone, train, tested, protocol, work.schedule, device=work.device, track=track
        )
        rows[protocol] = task.judge(scores, tested)
    notes = [
        f"{len(train.images):,} images of {train.images.name} to learn from, "
        f"{len(tested.images):,} of {tested.images.name} to test on, {size} pixels a side."
    ]
    settings = {
        "data": data,
        "data_root": None if images.data_root is None else str(images.data_root),
        "size": size,
        "splits": splits,
        "test": test,
        "labels_per_class": labels_per_class,
        "protocols": protocols,
    }
    work.write("classify", rows, settings, notes, lambda: draw_surest(tested, scores))


@transfer.command
def detect(
    weights: Weights,
    data: Voc,
    *,
    out: Path,
    splits: tuple[str, str] = ("trainval", "test"),
    proposals: Path | None = None,
    options: Options = Options(),
) -> None:
    """Learn to find objects, by Fast R-CNN (needs nearfar[detection]).

    **For example**

        nearfar transfer detect run VOCdevkit/VOC2007 --out detected --proposals proposals

    Parameters
    ----------
    out
        The folder to write to.
    splits
        TRAIN TEST.
    proposals
        The folder to keep the boxes of selective search in, which takes a second an image; in
        --out if not given.
    """
    from nearfar.report.transfer import draw_detections, with_mean
    from nearfar.transfer import detection as task
    from nearfar.transfer.devkit import Devkit
    from nearfar.transfer.metrics import detection_ap

    work = _Work.begin(weights, out, options, task.SCHEDULE, kept=(PROPOSALS,))
    devkit, size = Devkit.open(data), options.size or task.SIZE
    devkit.check_apart("Main", *splits)
    folder = proposals or out / PROPOSALS
    train, test = (task.open_scenes(devkit, split, size, folder, work.track) for split in splits)
    work.initialize_in(devkit, train.names, size)
    network = task.train_detector(
        work.backbone, train, work.schedule, device=work.device, track=work.track
    )
    found = task.detect(network, test, device=work.device, track=work.track)
    columns = {
        f"AP, {points} points": detection_ap(found, test.objects, len(devkit.classes), points)
        for points in ("11", "all")
    }
    notes = [
        f"{len(train.names):,} images to learn from, {len(test.names):,} to test on, of {data}; "
        f"{size} pixels on the shorter side."
    ]
    rows = with_mean(devkit.classes, columns)
    settings = {"data": str(data), "size": size, "splits": splits, "proposals": str(folder)}
    work.write(
        "detect",
        rows,
        settings,
        notes,
        lambda: draw_detections(devkit, test.names, test.objects, found),
    )


@transfer.command
def segment(
    weights: Weights,
    data: Voc,
    *,
    out: Path,
    splits: tuple[str, str] = ("train", "val"),
    fcn: Literal[32, 16, 8] = 32,
    options: Options = Options(),
) -> None:
    """Learn to say of each pixel what it shows, by a fully convolutional network (FCN).

    **For example**

        nearfar transfer segment run VOCdevkit/VOC2012 --out segmented
        nearfar transfer segment run camvid --splits train test --fcn 8 --out segmented

    Parameters
    ----------
    out
        The folder to write to.
    splits
        TRAIN TEST.
    fcn
        FCN-32s, FCN-16s or FCN-8s: the last two take finer feature maps, too.
    """
    from nearfar.report.transfer import draw_masks, spread_rows, with_mean
    from nearfar.transfer import segmentation as task
    from nearfar.transfer.devkit import Devkit

    work = _Work.begin(weights, out, options, task.SCHEDULE)
    task.finer_channels(work.backbone, fcn)
    devkit, size = Devkit.open(data), options.size or task.SIZE
    devkit.check_apart("Segmentation", *splits)
    train, test = (task.open_masked(devkit, split, size, work.track) for split in splits)
    work.initialize_in(devkit, train.names, size)
    network = task.train_segmenter(
        work.backbone, train, fcn, work.schedule, device=work.device, track=work.track
    )
    counts = task.overlap(network, test, device=work.device, track=work.track)
    notes = [
        f"FCN-{fcn}s. {len(train.names):,} images to learn from, {len(test.names):,} to test on, "
        f"of {data}; {size} pixels on the shorter side. Judged at the size of the files."
    ]
    rows = with_mean(devkit.mask_classes, {"IoU": counts.iou()})
    settings = {"data": str(data), "size": size, "splits": splits, "fcn": fcn}
    shown = replace(test, names=[test.names[row] for row in spread_rows(len(test.names))])
    pairs = task.segment(network, shown, device=work.device)
    work.write(
        "segment", rows, settings, notes, lambda: draw_masks(devkit, shown.names, list(pairs))
    )


@dataclass(frozen=True)
class _Work:
    """What all tasks do before and after their own."""

    weights: str
    out: Path
    options: Options
    architecture: Architecture
    backbone: Backbone
    schedule: Schedule
    device: torch.device
    track: Bars

    @classmethod
    def begin(
        cls,
        weights: str,
        out: Path,
        options: Options,
        usual: Schedule,
        kept: Collection[str] = (),
    ) -> _Work:
        """Open the weights, and check what can be checked before any images are read."""
        from nearfar.files import claim_output
        from nearfar.models import resolve_device
        from nearfar.transfer.weights import describe, open_backbone

        claim_output(out, overwrite=options.overwrite, folder=True, kept=kept)
        names = ("steps", "batch_size", "lr", "weight_decay")
        given = {name: getattr(options, name) for name in names}
        chosen = {name: value for name, value in given.items() if value is not None}
        schedule = replace(usual, **chosen, seed=options.seed)
        device, architecture = resolve_device(options.device), describe(weights, options.like)
        backbone = open_backbone(weights, like=options.like, seed=options.seed)
        return cls(weights, out, options, architecture, backbone, schedule, device, bars())

    def initialize(self, count: int, choose: Callable[[list[int]], Images]) -> None:
        """Let k-means, if that is asked for, learn from some of so many images."""
        from nearfar.models.kmeans_init import draw_kmeans_rows, initialize_by_kmeans

        if self.weights == "kmeans":
            images = choose(draw_kmeans_rows(count, self.options.seed))
            initialize_by_kmeans(self.backbone, images, self.options.seed, self.track)

    def initialize_in(self, devkit: Devkit, names: Sequence[str], size: int) -> None:
        """Let k-means, if that is asked for, learn from some images of a devkit."""
        from nearfar.transfer.labeled import devkit_images

        self.initialize(
            len(names), lambda rows: devkit_images(devkit, [names[row] for row in rows], size)
        )

    def write(
        self,
        task: str,
        rows: Mapping[str, Mapping[str, float]],
        settings: Mapping[str, Any],
        notes: Sequence[str],
        draw: Callable[[], Figure],
    ) -> None:
        """Write and print the table."""
        from nearfar.report.transfer import write_transfer

        like = self.options.like
        settings = {
            "weights": self.weights,
            "like": None if like is None else str(like),
            "schedule": asdict(self.schedule),
            "device": str(self.device),
            **settings,
        }
        print(write_transfer(self.out, task, rows, settings, notes, draw))
        print(f"this table, its figure and the numbers are in {self.out}")
