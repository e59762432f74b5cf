"""Reports of the outcomes of attacks: a table and a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfar.defense import MIN_IMAGES_FOR_MASKING, THREATS, Assessment
from nearfar.files import atomic_path, write_json
from nearfar.report.figures import save_figure, security_curves
from nearfar.report.tables import markdown_table


def write_assessment(
    folder: str | os.PathLike[str], assessment: Assessment, settings: Mapping[str, Any]
) -> str:
    """Write ``attack.json``, ``attack.md`` and ``attack.png``, and return the table as Markdown.

    Parameters
    ----------
    folder : str or path
        Output folder, created if needed.
    assessment : Assessment
        Outcomes of the attacks.
    settings : mapping of str to object
        Settings by name: "classifier", "data", "run", "passes", "noise_std" and "votes". "run" is
        the run folder of the purifier, or None if there is no defense.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.defense import Outcome
    >>> clean = Outcome(accuracy=0.9, rejected=0.0, images=50)
    >>> curves = {("transfer", "fgsm"): [Outcome(accuracy=0.5, rejected=0.0, images=50)]}
    >>> assessment = Assessment(clean, 0.8, (0.1,), curves, masking=None)
    >>> settings = {"classifier": "models:digits", "data": "mnist:test", "run": None}
    >>> settings |= {"passes": 1, "noise_std": 0.0, "votes": 0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = write_assessment(Path(folder), assessment, settings)
    >>> "| transfer | fgsm | 50.0% |" in text
    True
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = _table(assessment, settings)
    write_json(folder / "attack.json", {"settings": settings, **assessment.to_dict()})
    with atomic_path(folder / "attack.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    start = (0.0, assessment.clean.accuracy)
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for (threat, name), curve in assessment.curves.items():
        points = [(e, each.defended) for e, each in zip(assessment.epsilons, curve, strict=True)]
        panels.setdefault(threat, {})[name] = [start, *sorted(points)]
    with atomic_path(folder / "attack.png") as temporary:
        save_figure(security_curves(panels), temporary)
    return text


def _table(assessment: Assessment, settings: Mapping[str, Any]) -> str:
    clean, run = assessment.clean, settings["run"]
    chosen = [f"{name} {settings[name]}" for name in ("passes", "noise_std", "votes")]
    purified = f"purified by {run} ({', '.join(chosen)})" if run else "without a defense"
    threats = dict.fromkeys(threat for threat, _ in assessment.curves)
    seen = [f"{threat}: the attacker has {THREATS[threat]}." for threat in threats]
    return markdown_table(
        ["threat model", "attack", *(f"ε = {epsilon:g}" for epsilon in assessment.epsilons)],
        [
            ["no attack", "", *(f"{clean.accuracy:.1%}" for _ in assessment.epsilons)],
            *(
                [threat, name, *(f"{outcome.defended:.1%}" for outcome in curve)]
                for (threat, name), curve in assessment.curves.items()
            ),
        ],
        [
            f"{settings['classifier']} on {settings['data']}, {purified}.",
            f"Share of {clean.images} images that are classified correctly or, under attack, "
            "rejected.",
            *seen,
            f"The substitute has an accuracy of {assessment.substitute:.1%}.",
            _verdict(assessment),
        ],
    )


def _verdict(assessment: Assessment) -> str:
    masking = assessment.masking
    if masking is None:
        return (
            f"{assessment.clean.images} images are too few to detect gradient masking: "
            f"attack at least {MIN_IMAGES_FOR_MASKING}."
        )
    chance = f"(chance here: up to {masking.chance:.1%})"
    if masking.masked:
        return (
            f"With ε up to 1, accuracy under PGD is still {masking.accuracy:.1%} {chance}: "
            "gradients are masked and mislead attacks. Do not trust the white-box rows."
        )
    return (
        f"With ε up to 1, accuracy under PGD falls to {masking.accuracy:.1%}: no sign of masking "
        f"{chance}."
    )
