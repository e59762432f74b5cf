"""``--config`` of ``nearfar train``: options from a YAML or JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

from nearfar.config import flatten
from nearfar.errors import NearfarError


def read_config_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill options that the command line has not given from the file of ``--config``."""
    if commands != ("train",):
        return
    argument = arguments.get("--config", default=None)
    if argument is None or not argument.tokens:
        return
    path = argument.tokens[-1].value
    options = flatten(_read(Path(path)))
    if options.get("network") == "convnet" or "backbone" in options:
        options.pop("network", None)  # follows from `backbone`
    Dict({"train": options}, source=path)(app, commands, arguments)


def _read(path: Path) -> dict[str, Any]:
    """Read options, or sections of options, from YAML or JSON."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NearfarError(f"configuration {str(path)!r} cannot be read: {error}") from error
    try:
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError) as error:
        raise NearfarError(f"configuration {str(path)!r} cannot be parsed: {error}") from error
    except yaml.YAMLError as error:
        raise NearfarError(f"configuration {str(path)!r} is not YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise NearfarError(f"configuration {str(path)!r}: expected options with their values")
    for name in ("out", "recipe"):
        if not isinstance(values.get(name, ""), str):
            raise NearfarError(
                f"configuration {str(path)!r} has {name}={values[name]!r}: expected text, in quotes"
            )
    return values
