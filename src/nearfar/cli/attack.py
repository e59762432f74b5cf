"""``nearfar attack``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import DATA_HELP, DataOptions, OverwriteFiles, PurifierOptions, Seed, bars


def attack(
    classifier: Annotated[str, Parameter(help="A .safetensors file, or module:function.")],
    data: Annotated[str, Parameter(help=f"Labeled images. {DATA_HELP}")],
    *,
    out: Annotated[Path, Parameter(help="The folder to write to.")],
    run: Annotated[Path | None, Parameter(help="A run folder whose network purifies.")] = None,
    attacks: tuple[str, ...] = ("fgsm", "pgd"),
    epsilons: tuple[float, ...] = (0.01, 0.1, 0.2, 0.3),
    count: int = 200,
    purification: PurifierOptions = PurifierOptions(),
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: str = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Measure a classifier, purified by a run or not, under named threat models.

    The classifier takes images where 0 is black and 1 is white, channels first, and gives logits.
    It is a file that nearfar wrote, as nearfar reproduce table3 does; or a function in a Python
    module of your own, which is imported, also from the current folder, and called without
    arguments for a torch.nn.Module. Writes attack.json, attack.md and attack.png.

    **For example**

        nearfar attack target-seed-0.safetensors mnist:test --run run --out attack
        nearfar attack models:digits photos --run run --attacks pgd hop-skip-jump --out attack

    Parameters
    ----------
    attacks
        Some of fgsm, pgd, autoattack, which take gradients; square, hop-skip-jump, which query.
    epsilons
        The largest changes of a pixel, on the scale of black 0, white 1.
    count
        How many images to attack; of fewer than 100 it cannot be told whether gradients are masked.
        Up to 150 others train the substitute of transfer attacks.
    """
    from torch import nn

    from nearfar.defense.assessment import assess
    from nearfar.defense.attacks import check_attacks
    from nearfar.defense.classifiers import Classifier
    from nearfar.defense.guard import Guarded
    from nearfar.defense.sources import open_classifier
    from nearfar.errors import NearfarError, require
    from nearfar.files import claim_output
    from nearfar.models import resolve_device
    from nearfar.report.attacks import write_assessment
    from nearfar.runs import read_config

    require("art", extra="defense")
    check_attacks(attacks)
    if run is None and purification != PurifierOptions():
        raise NearfarError("--passes, --noise and --neighbors say how --run purifies: give --run")
    claim_output(out, overwrite=overwrite, folder=True)
    model, target, track = open_classifier(classifier), resolve_device(device), bars()
    if run is not None:
        source = images.open_for(read_config(run), data, track)
        purifier = purification.load(run).to(target)
        guarded = purifier.guard(model.to(target), track=track)
    else:
        channels, *size = model.shape if isinstance(model, Classifier) else (None,)
        source = images.open(data, track, channels=channels, size=tuple(size) or None)
        guarded = Guarded(nn.Identity(), model.to(target))
    assessment = assess(
        guarded,
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
    print(f"this table, its figure and the numbers are in {out}")
