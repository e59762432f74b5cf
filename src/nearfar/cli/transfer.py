"""Command ``nearfar transfer``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from nearfar.cli.options import (
    DATA_HELP,
    DataOptions,
    Device,
    OverwriteFiles,
    Seed,
    bars_after_torch,
    shown,
)
from nearfar.files import is_unfinished_output, try_output

if TYPE_CHECKING:
    from nearfar.progress import Bars
    from nearfar.transfer import FinetuneConfig, Source, TransferResult

transfer = App(
    name="transfer",
    help=(
        "Fine-tune a backbone on a labeled task, and predict.\n\n"
        "The commands and schedules are the same for runs, pretrained weights and initial weights."
    ),
)

Weights = Annotated[
    str,
    Parameter(
        help="A run trained with --backbone; a .safetensors file of torchvision's AlexNet, "
        "ResNet-18, ResNet-50 or ViT-S/16; the name of such weights, for example "
        "AlexNet_Weights.IMAGENET1K_V1; random; or kmeans."
    ),
]
VOC_HELP = "A VOC devkit: the folder that contains JPEGImages, such as VOCdevkit/VOC2007."
Voc = Annotated[Path, Parameter(help=VOC_HELP)]
Out = Annotated[Path, Parameter(help="Folder to write the scores and the network to.")]


@Parameter(name="*", group=Group("Training", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class Options:
    """Options shared by all tasks. The defaults of the first five depend on the task."""

    size: Annotated[int | None, Parameter(validator=Number(gte=16))] = None
    "Image side in pixels; the shorter side if images keep their aspect ratio."
    steps: int | None = None
    "Number of batches."
    batch_size: int | None = None
    "Images per batch."
    lr: float | None = None
    "Peak learning rate of AdamW with a one-cycle schedule."
    weight_decay: float | None = None
    "Weight decay of AdamW."
    like: Path | None = None
    "Run with the architecture to use for random and kmeans. Default: torchvision's AlexNet."
    seed: Seed = 0
    device: Device = "auto"
    overwrite: OverwriteFiles = False

    def source(self, weights: str, out: Path, default: FinetuneConfig, track: Bars) -> Source:
        """Return the initial weights and all options as a `Source`, as the library expects."""
        from nearfar.transfer import Source

        names = ("steps", "batch_size", "lr", "weight_decay")
        changes = {name: getattr(self, name) for name in names}
        changes = {name: value for name, value in changes.items() if value is not None}
        return Source(
            weights=weights,
            like=self.like,
            size=self.size,
            config=replace(default, **changes, seed=self.seed),
            folder=out,
            device=self.device,
            track=track,
        )


@transfer.command
def classify(
    weights: Weights,
    data: Annotated[str, Parameter(help=f"{VOC_HELP} Or: {DATA_HELP}")],
    *,
    out: Out,
    protocols: tuple[Literal["linear", "fc", "all"], ...] = ("linear", "fc", "all"),
    splits: tuple[str, str] | None = None,
    test: str | None = None,
    labels_per_class: int | None = None,
    images: DataOptions = DataOptions(),
    options: Options = Options(),
) -> None:
    """Train and evaluate image classifiers.

    Images in a VOC devkit may show several classes. Their mAP is computed by the official rules.
    Other images have one label, the name of their subfolder.

    **For example**

        nearfar transfer classify run VOCdevkit/VOC2007 --out classified
        nearfar transfer classify run photos --labels-per-class 5 --out few
        nearfar transfer classify random photos --like run --out baseline

    Parameters
    ----------
    protocols
        Layers to train: a linear layer on the embeddings (linear), all fully connected layers (fc),
        or all layers (all). Networks are saved in subfolders with these names.
    splits
        Names of the TRAIN and TEST splits of a devkit. Default: trainval test.
    test
        Test images, if DATA is not a devkit. Default: a fifth of each class is held out.
    labels_per_class
        Number of training images per class, if DATA is not a devkit. Default: all.
    """
    _try_output(out, overwrite=options.overwrite)
    track = bars_after_torch()

    from nearfar.transfer import CLASSIFICATION_CONFIG, transfer_classification

    result = transfer_classification(
        options.source(weights, out, CLASSIFICATION_CONFIG, track),
        data,
        protocols=protocols,
        splits=splits,
        test=test,
        labels_per_class=labels_per_class,
        open_source=lambda source, **shape: images.open(source, track, **shape),
    )
    root = None if images.data_root is None else str(images.data_root)
    _report(out, replace(result, settings={**result.settings, "data_root": root}))


@transfer.command
def detect(
    weights: Weights,
    data: Voc,
    *,
    out: Out,
    splits: tuple[str, str] = ("trainval", "test"),
    proposals: Path | None = None,
    options: Options = Options(),
) -> None:
    """Train and evaluate an object detector, Fast R-CNN.

    This requires nearfar[detection].

    **For example**

        nearfar transfer detect run VOCdevkit/VOC2007 --out detected --proposals proposals

    Parameters
    ----------
    splits
        Names of the TRAIN and TEST splits.
    proposals
        Folder in which to cache the boxes found by selective search, which takes about a second per
        image. Default: in --out.
    """
    from nearfar.transfer import PROPOSALS_FOLDER, Devkit

    _try_output(out, overwrite=options.overwrite, keep={PROPOSALS_FOLDER})
    Devkit.open(data).check_disjoint("Main", *splits)
    track = bars_after_torch()

    from nearfar.transfer import DETECTION_CONFIG, transfer_detection

    source = options.source(weights, out, DETECTION_CONFIG, track)
    _report(out, transfer_detection(source, data, splits=splits, proposals=proposals))


@transfer.command
def segment(
    weights: Weights,
    data: Voc,
    *,
    out: Out,
    splits: tuple[str, str] = ("train", "val"),
    fcn: Literal[32, 16, 8] = 32,
    options: Options = Options(),
) -> None:
    """Train and evaluate a fully convolutional network (FCN) for semantic segmentation.

    **For example**

        nearfar transfer segment run VOCdevkit/VOC2012 --out segmented
        nearfar transfer segment run camvid --splits train test --fcn 8 --out segmented

    Parameters
    ----------
    splits
        Names of the TRAIN and TEST splits.
    fcn
        Output stride. 32 trains FCN-32s; 16 and 8 train FCN-16s and FCN-8s, which add finer feature
        maps.
    """
    from nearfar.transfer import Devkit

    _try_output(out, overwrite=options.overwrite)
    Devkit.open(data).check_disjoint("Segmentation", *splits)
    track = bars_after_torch()

    from nearfar.transfer import SEGMENTATION_CONFIG, transfer_segmentation

    source = options.source(weights, out, SEGMENTATION_CONFIG, track)
    _report(out, transfer_segmentation(source, data, splits=splits, stride=fcn))


@transfer.command
def predict(
    folder: Annotated[Path, Parameter(help="Folder from nearfar transfer classify, detect or …")],
    data: Annotated[str, Parameter(help=f"Images. {DATA_HELP}")],
    *,
    out: Annotated[Path, Parameter(help="Folder to write predictions to.")],
    images: DataOptions = DataOptions(),
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Predict classes, objects or label maps of new images with a fine-tuned network.

    For classification, predictions.csv contains the probability of each class. For detection, which
    requires nearfar[detection], boxes are written to detections.json, and images with boxes to the
    folder drawn. For segmentation, label maps are written to the folder masks, as PNG files with a
    palette, and the classes to classes.json.

    **For example**

        nearfar transfer predict classified/all photos --out predicted
        nearfar transfer predict segmented street.jpg --out predicted
    """
    _try_output(out, overwrite=overwrite)
    track = bars_after_torch()

    from nearfar.models import resolve_device
    from nearfar.transfer import (
        FinetunedClassifier,
        claim_folder,
        load_finetuned,
        write_predictions,
    )

    with claim_folder(out):
        model = load_finetuned(folder)
        model.network.to(resolve_device(device))
        if isinstance(model, FinetunedClassifier):
            channels, *size = model.shape
            source = images.open(data, track, channels=channels, size=tuple(size))
        else:
            source = images.open(data, track, channels=3)
        write_predictions(model, source, out, track=track)
    print(f"predictions for {len(source)} images are in {shown(out)}")


def _try_output(out: Path, *, overwrite: bool, keep: Collection[str] = ()) -> None:
    """Check that output can be written to a folder. The output of a killed call may be replaced."""
    try_output(out, overwrite=overwrite or is_unfinished_output(out), folder=True, keep=keep)


def _report(out: Path, result: TransferResult) -> None:
    """Print the table, and write the table, the figure and the networks."""
    from nearfar.report import transfer_table, write_transfer

    print(transfer_table(result), flush=True)
    write_transfer(out, result)
    print(f"this table, its figure, the numbers and the network are in {shown(out)}")
