"""Command ``nearfar attack``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    DATA_HELP,
    DataOptions,
    Device,
    OverwriteFiles,
    PurifierOptions,
    Seed,
    bars_after_torch,
    shown,
)
from nearfar.errors import NearfarError, require
from nearfar.files import try_output


def attack(
    classifier: Annotated[str, Parameter(help="A .safetensors file, or module:function.")],
    data: Annotated[str, Parameter(help=f"Labeled images to attack. {DATA_HELP}")],
    *,
    out: Annotated[Path, Parameter(help="Folder to write to.")],
    run: Annotated[Path | None, Parameter(help="Run folder of the purifier.")] = None,
    attacks: tuple[str, ...] = ("fgsm", "pgd"),
    epsilons: tuple[float, ...] = (0.01, 0.1, 0.2, 0.3),
    count: int = 200,
    purification: PurifierOptions = PurifierOptions(),
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Attack a classifier, with or without purification, under several threat models.

    The classifier takes images (channels first; 0 is black, 1 is white) and returns logits. It is a
    .safetensors file written by nearfar, for example by nearfar reproduce table3; or
    module:function, a function of your own that takes no arguments and returns a torch.nn.Module.
    Modules are searched for in the current folder first. Writes attack.json, attack.md and
    attack.png.

    **For example**

        nearfar attack target-seed-0.safetensors mnist:test --run run --out attack
        nearfar attack models:digits photos --run run --attacks pgd hop-skip-jump --out attack

    Parameters
    ----------
    attacks
        Names of attacks. fgsm, pgd and autoattack use gradients; square and hop-skip-jump query the
        classifier.
    epsilons
        Maximum changes per pixel (L∞), where 0 is black and 1 is white.
    count
        Number of images to attack. The check for gradient masking requires at least 100. Up to 150
        of the other images are used to train the substitute model for transfer attacks.
    """
    if run is None and purification != PurifierOptions():
        raise NearfarError("--passes, --noise-std and --votes need --run: add --run")
    try_output(out, overwrite=overwrite, folder=True)
    track = bars_after_torch()

    from torch import nn

    from nearfar import defense
    from nearfar.models import resolve_device
    from nearfar.report import write_assessment
    from nearfar.runs import read_config

    require("art", extra="defense")
    defense.check_attacks(attacks)
    model, target = defense.open_classifier(classifier), resolve_device(device)
    if run is not None:
        source = images.open_for(read_config(run), data, track)
        purifier = purification.load(run).to(target)
        defended = purifier.defend(model.to(target), track=track)
    else:
        channels, *size = model.shape if isinstance(model, defense.Classifier) else (None,)
        source = images.open(data, track, channels=channels, size=tuple(size) or None)
        defended = defense.DefendedClassifier(nn.Identity(), model.to(target))
    assessment = defense.assess(
        defended,
        source,
        attacks=attacks,
        epsilons=epsilons,
        count=count,
        seed=seed,
        track=track,
    )
    settings = {
        "classifier": classifier,
        "data": data,
        "run": None if run is None else str(run),
        **asdict(purification),
        "seed": seed,
    }
    print(write_assessment(out, assessment, settings))
    print(f"this table, its figure and the numbers are in {shown(out)}")
