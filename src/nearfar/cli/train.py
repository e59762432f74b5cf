"""``nearfar train``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from nearfar.cli.options import Data, Overwrite, TrainDataOptions, bars
from nearfar.cli.train_options import NOT_GIVEN, TrainOptions, given
from nearfar.config import RecipeName, configure
from nearfar.errors import NearfarError

if TYPE_CHECKING:
    from nearfar.training import Estimate


def train(
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="Run folder to write.")],
    recipe: RecipeName = "paper",
    options: TrainOptions = NOT_GIVEN,
    images: TrainDataOptions = TrainDataOptions(),
    resume: bool = False,
    overwrite: Overwrite = False,
    tensorboard: bool = False,
    dry_run: bool = False,
    config: Path | None = None,
) -> None:
    """Train on images without labels: an autoencoder first, then relations between neighbors.

    All options: nearfar train --help-all

    **For example**

        nearfar train photos --out run
        nearfar train photos --out run --recipe nearfar
        nearfar train mnist:train --data-root data --out run --weights 0.6 0.4 0
        nearfar train photos --out run --resume
        nearfar train imagenet --out run --backbone alexnet --size 224 --bank disk --dry-run
        torchrun --nproc-per-node 2 -m nearfar train photos --out run

    Parameters
    ----------
    recipe
        Defaults of all options: the paper's training, or nearfar's own, for better embeddings.
    resume
        Continue the run in --out with its settings.
    tensorboard
        Write the metrics for TensorBoard, too, to the folder tensorboard in the run.
    dry_run
        Estimate time, memory and disk from a few steps; write nothing.
    config
        YAML or JSON file with options by name, or in sections as in config.json of a run. Options
        on the command line override it.
    """
    from nearfar.files import try_output
    from nearfar.models import resolve_device
    from nearfar.runs import SKIPPED, TENSORBOARD, check_folder, read_config
    from nearfar.training import EpochFunction, Interrupted, TensorBoard, estimate
    from nearfar.training import train as run_training

    saved = read_config(out) if resume else None
    try:
        settings = configure(
            given(options), recipe=recipe, base=None if saved is None else saved.train
        )
    except NearfarError as error:
        if config is None:
            raise
        raise NearfarError(f"{error} (options are from {str(config)!r}, too)") from error
    if saved is not None:
        images = images.or_those_of(saved.data)
    # Before the images, of which there may be millions to read.
    resolve_device(settings.device)
    if resume:
        try_output(out, overwrite=True, folder=True)
    else:
        check_folder(out, overwrite=overwrite)
    track = bars()
    console = track.progress.console

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    callbacks: list[Any] = [EpochFunction(lambda line: say(describe_epoch(line)))]
    if tensorboard:
        callbacks.append(TensorBoard(out / TENSORBOARD))
    listed_in = None if dry_run else out / SKIPPED
    source = images.open(
        data, track, listed_in=listed_in, size=images.size, channels=images.channels
    )
    source.origin = images.to_dict()
    if dry_run:
        for line in describe_estimate(
            estimate(source, settings, out, resume=resume, overwrite=overwrite, track=track)
        ):
            say(line)
        return
    try:
        run_training(
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
    say(f"the run is in {out}")


def describe_estimate(estimate: Estimate) -> list[str]:
    """Format an estimate for the terminal."""
    from nearfar.files import readable_size

    def row(kind: str, value: str, name: str) -> str:
        return f"{kind:>6}  {value:>12}  {name}"

    seconds = {**estimate.seconds, "together": sum(estimate.seconds.values())}
    disk = {
        **estimate.disk,
        "together": sum(estimate.disk.values()),
        "free": estimate.free_disk,
    }
    return [
        *(row("time", _duration(value), name) for name, value in seconds.items()),
        row("memory", readable_size(estimate.memory), "with one process"),
        *(row("disk", readable_size(value), name) for name, value in disk.items()),
    ]


def _duration(seconds: float) -> str:
    """Format hours and minutes, or minutes, or seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


#: Metrics beside the objective's terms.
OTHER_METRICS = {
    *("phase", "epoch", "loss", "dead_units", "effective_rank", "seconds"),
    *("images_per_second", "zero_embeddings"),
}


def describe_epoch(line: dict[str, Any]) -> str:
    """Format the log line of an epoch for the terminal."""
    terms = [f"{name} {value:.4f}" for name, value in line.items() if name not in OTHER_METRICS]
    return (
        f"{line['phase']:>8} {line['epoch']:>3}  {'  '.join(terms)}  "
        f"rank {line['effective_rank']:.1f}  {line['images_per_second']:.0f} images/s"
    )
