"""What was trained, on what, how: ``config.json``."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from nearfar.errors import NearfarError
from nearfar.files import write_json
from nearfar.models import Architecture
from nearfar.run_config import RunConfig, RunData
from nearfar.runs.folder import CONFIG, reading

#: Raised by one whenever an older nearfar could not read what is written.
FORMAT = 1


def write_config(folder: Path, config: RunConfig) -> None:
    """Write ``config.json``."""
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "nearfar": version("nearfar"),
            "data": asdict(config.data),
            "train": config.train,
            "architecture": config.architecture and asdict(config.architecture),
            "pixel_range": config.pixel_range,
        },
    )


def read_config(folder: Path) -> RunConfig:
    """Read ``config.json``.

    Raises
    ------
    NearfarError
        If the folder is not a run, is damaged, or was written in a newer format.
    """
    if not folder.is_dir():
        raise NearfarError(f"run {str(folder)!r} does not exist: expected a folder from train")
    path = folder / CONFIG
    if not path.is_file():
        raise NearfarError(f"{str(folder)!r} is not a run: it has no {CONFIG}")
    with reading(folder, CONFIG):
        saved = json.loads(path.read_text(encoding="utf-8"))
        newer = saved["format"] > FORMAT
    if newer:
        raise NearfarError(
            f"run {str(folder)!r} has format {saved['format']}, written by nearfar "
            f"{saved.get('nearfar')}: this nearfar reads up to {FORMAT}, so install a newer one"
        )
    with reading(folder, CONFIG):
        if "similarity" not in saved["train"]:
            raise NearfarError("train has no similarity")
        described = saved["architecture"]
        return RunConfig(
            RunData(**saved["data"]),
            saved["train"],
            described and Architecture(**described),
            saved["pixel_range"],
        )
