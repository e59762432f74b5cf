"""``nearfar train``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from nearfar.cli.options import Data, Overwrite, TrainDataOptions, bars
from nearfar.training.config import TrainConfig
from nearfar.training.recipes import RecipeName

if TYPE_CHECKING:
    from nearfar.training.plan import Plan

Config = Annotated[TrainConfig, Parameter(name="*", group=Group("Training", sort_key=2))]


def train(
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="The run folder to write.")],
    images: TrainDataOptions = TrainDataOptions(),
    recipe: RecipeName = "paper",
    options: Config = TrainConfig(),
    resume: bool = False,
    overwrite: Overwrite = False,
    tensorboard: bool = False,
    dry_run: bool = False,
    config: Path | None = None,
) -> None:
    """Learn from images: an autoencoder first, then the relations between neighbors.

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
        The paper's training, which the defaults are; or nearfar's own, for better embeddings.
        Options given here override it.
    resume
        Continue the run in the --out folder, with the choices it was begun with.
    tensorboard
        Write the log for TensorBoard as well, to the folder tensorboard in the run.
    dry_run
        Write nothing: try a few steps, and say what time, memory and disk the training will take.
    config
        A YAML or JSON file with options by name, which those given here override.
    """
    from nearfar.models import resolve_device
    from nearfar.runs import TENSORBOARD, check_folder
    from nearfar.training.loop import Interrupted
    from nearfar.training.plan import plan
    from nearfar.training.tensorboard import tensorboard_log
    from nearfar.training.train import train as run_training

    # Before the images, of which there may be millions to read.
    resolve_device(options.device)
    if not resume:
        check_folder(out, overwrite=overwrite)
    log = tensorboard_log(out / TENSORBOARD) if tensorboard else None
    track = bars()
    console = track.progress.console
    source = images.open(data, track, size=images.size, channels=images.channels)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if dry_run:
        planned = plan(source, options, out, resume=resume, overwrite=overwrite, track=track)
        for line in describe_plan(planned):
            say(line)
        return

    def on_epoch(line: dict[str, Any]) -> None:
        say(describe_epoch(line))
        if log is not None:
            log(line)

    try:
        run_training(
            source,
            options,
            folder=out,
            resume=resume,
            overwrite=overwrite,
            origin=images.to_dict(),
            on_epoch=on_epoch,
            track=track,
        )
    except Interrupted:
        command = shlex.join(["nearfar", "train", data, "--out", str(out), "--resume"])
        say(f"nearfar: stopped: continue with {command}")
        sys.exit(130)
    say(f"the run is in {out}")


def describe_plan(plan: Plan) -> list[str]:
    """Lines for the terminal."""
    from nearfar.files import readable_size

    def row(kind: str, value: str, name: str) -> str:
        return f"{kind:>6}  {value:>12}  {name}"

    seconds = {**plan.seconds, "together": sum(plan.seconds.values())}
    disk = {**plan.disk, "together": sum(plan.disk.values()), "free": plan.free_disk}
    return [
        *(row("time", _duration(value), name) for name, value in seconds.items()),
        row("memory", readable_size(plan.memory), "with one process"),
        *(row("disk", readable_size(value), name) for name, value in disk.items()),
    ]


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds, of which the smaller ones do not matter beside the larger."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def describe_epoch(line: dict[str, Any]) -> str:
    """One line for the terminal."""
    terms = ("own", "near", "far", "relation", "pixel")
    shown = [f"{name} {line[name]:.4f}" for name in terms if name in line]
    return (
        f"{line['phase']:>10} {line['epoch']:>3}  {'  '.join(shown)}  "
        f"rank {line['effective_rank']:.1f}  {line['images_per_second']:.0f} images/s"
    )
