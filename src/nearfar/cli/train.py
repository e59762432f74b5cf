"""Command ``nearfar train``."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from nearfar.cli.options import Data, Overwrite, TrainDataOptions, bars_after_torch, shown
from nearfar.cli.train_options import NOT_GIVEN, TrainOptions, given_options
from nearfar.config import configure, implied_recipe
from nearfar.errors import NearfarError
from nearfar.files import try_output
from nearfar.runs import SKIPPED, TENSORBOARD, check_folder

if TYPE_CHECKING:
    from nearfar.training import Estimate, Trainer

RecipeChoice = Literal["auto", "paper", "nearfar", "continue"]


def train(
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="Run folder to write to.")],
    recipe: RecipeChoice = "auto",
    options: TrainOptions = NOT_GIVEN,
    images: TrainDataOptions = TrainDataOptions(),
    resume: bool = False,
    overwrite: Overwrite = False,
    validate: str | None = None,
    tensorboard: bool = False,
    dry_run: bool = False,
    config: Path | None = None,
) -> None:
    """Train an image encoder without labels.

    By default, the recipe, the batch size and the number of epochs depend on the images. On
    photographs, training starts from a pretrained encoder; on other images, from scratch.

    All options: nearfar train --help-all

    **For example**

        nearfar train photos --out run
        nearfar train photos --out run --backbone timm:resnet50 --weights pretrained
        nearfar train digits --out run --recipe paper
        nearfar train mnist:train --data-root data --out run --loss-weights 0.6 0.4 0
        nearfar train photos --out run --resume
        nearfar train imagenet --out run --backbone alexnet --size 224 --bank disk --dry-run
        torchrun --nproc-per-node 2 -m nearfar train photos --out run

    Parameters
    ----------
    recipe
        Recipe, which sets the defaults of all options. "paper" is the training of the paper;
        "nearfar" is our training from scratch; "continue" is our training from a pretrained
        encoder; "auto" chooses a recipe according to the images and the other options.
    resume
        Resume the run in --out with its settings.
    validate
        Labeled images, such as a folder with one subfolder per class, on which to measure the
        5-nearest-neighbor accuracy after each epoch. They are not used for training.
    tensorboard
        Also write TensorBoard logs, to the folder tensorboard in the run folder.
    dry_run
        Estimate time, memory and disk space from a few steps, and write nothing.
    config
        YAML or JSON file of options, by name or in sections as in a run's config.json. Options on
        the command line take precedence.
    """
    # Checked before reading images, of which there may be millions.
    if resume:
        try_output(out, overwrite=True, folder=True)
    else:
        check_folder(out, overwrite=overwrite)
    track = bars_after_torch()

    from nearfar.evaluation import Validation
    from nearfar.models import resolve_device
    from nearfar.runs import read_config
    from nearfar.training import Callback, Interrupted, TensorBoard, estimate
    from nearfar.training import train as run_training

    saved = read_config(out) if resume else None
    wanted, named = given_options(options), None if recipe == "auto" else recipe
    base = None if saved is None else saved.train
    try:
        settings = configure(wanted, recipe=named or implied_recipe(wanted) or "nearfar", base=base)
    except NearfarError as error:
        if config is None:
            raise
        raise NearfarError(f"{error} (some options are from {str(config)!r})") from error
    resolve_device(settings.device)
    console = track.progress.console

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    class EpochLines(Callback):
        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
            say(describe_epoch(metrics, trainer.epochs))

    callbacks: list[Any] = [EpochLines()]
    if tensorboard:
        callbacks.append(TensorBoard(out / TENSORBOARD))
    listed_in = None if dry_run else out / SKIPPED
    if saved is not None:
        images = images.or_those_of(saved.data)
        source = images.open(data, track, listed_in, size=images.size, channels=images.channels)
        source.origin = images.to_dict(source)
    else:
        source, chosen = images.open_with_defaults(data, track, listed_in, wanted, named)
        settings = chosen.config
        say(chosen.description)  # worded in nearfar.training.defaults
        if chosen.warning:
            warnings.warn(chosen.warning, stacklevel=2)
    validation = None
    if validate is not None:
        channels, height, width = source.shape
        size = (height, width)
        validation = Validation(images.open(validate, track, size=size, channels=channels))
        callbacks.append(validation)
    elif source.labels is not None and len(set(source.labels)) > 1:
        validation = Validation(source)
    if dry_run:
        for line in describe_estimate(
            estimate(source, settings, out, resume=resume, overwrite=overwrite, track=track)
        ):
            say(line)
        return
    try:
        run = run_training(
            source,
            settings,
            folder=out,
            resume=resume,
            overwrite=overwrite,
            callbacks=callbacks,
            track=track,
        )
    except Interrupted:
        command = shlex.join(["nearfar", "train", data, "--out", str(out), "--resume"])
        say(f"nearfar: stopped: continue with {command}")
        sys.exit(130)
    if validation is not None:
        say(validation.verdict(run, resolve_device(settings.device), track=track))
    say(f"the run is in {shown(out)}; look at it by {shlex.join(['nearfar', 'report', str(out)])}")


def describe_estimate(estimate: Estimate) -> list[str]:
    """Return an estimate as lines of text for the terminal."""
    from nearfar.files import readable_size
    from nearfar.progress import duration

    def row(kind: str, value: str, name: str) -> str:
        return f"{kind:>6}  {value:>12}  {name}"

    seconds = {**estimate.seconds, "together": sum(estimate.seconds.values())}
    disk = {
        **estimate.disk,
        "together": sum(estimate.disk.values()),
        "free": estimate.free_disk,
    }
    return [
        *(row("time", duration(value), name) for name, value in seconds.items()),
        row("memory", readable_size(estimate.memory), "with one process"),
        *(row("disk", readable_size(value), name) for name, value in disk.items()),
    ]


#: Metrics other than the objective's terms.
OTHER_METRICS = {
    *("phase", "epoch", "loss", "dead_units", "effective_rank", "knn_accuracy", "seconds"),
    *("images_per_second", "zero_embeddings"),
}


def describe_epoch(line: dict[str, Any], epochs: int = 0) -> str:
    """Return the log line of an epoch, with the remaining time if `epochs`, the total, is given."""
    from nearfar.progress import duration

    terms = [f"{name} {value:.4f}" for name, value in line.items() if name not in OTHER_METRICS]
    if "knn_accuracy" in line:
        terms.append(f"5-NN {line['knn_accuracy']:.1%}")
    left = line["seconds"] * (epochs - line["epoch"])
    return (
        f"{line['phase']:>8} {line['epoch']:>3}  {'  '.join(terms)}  "
        f"rank {line['effective_rank']:.1f}  {line['images_per_second']:.0f} images/s"
        + (f"  {duration(left)} left" if left >= 60 else "")
    )
