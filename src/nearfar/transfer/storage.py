"""Files of fine-tuned networks: weights as safetensors, and a configuration as JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nearfar.errors import NearfarError, reason
from nearfar.files import write_json
from nearfar.runs import read_tensors, to_cpu, write_tensors

CONFIG, WEIGHTS = "finetuned.json", "finetuned.safetensors"

#: Incremented whenever an older nearfar could not read the files.
_FORMAT = 1


def write_finetuned(folder: Path, network: nn.Module, config: Mapping[str, Any]) -> None:
    """Write a network and its configuration; the configuration comes last."""
    make_folder(folder)
    (folder / CONFIG).unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, to_cpu(network.state_dict()))
    write_json(folder / CONFIG, {"format": _FORMAT, "nearfar": version("nearfar"), **config})


def read_finetuned(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the configuration and the weights.

    Raises
    ------
    NearfarError
        If a file is missing, damaged, or of a newer format.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise NearfarError(
            f"{str(folder)!r} holds no fine-tuned network: expected a folder from nearfar transfer"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        newer = config["format"] > _FORMAT
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise NearfarError(f"{str(path)!r} is damaged ({reason(error)})") from error
    if newer:
        raise NearfarError(
            f"{str(path)!r} has format {config['format']}, written by nearfar "
            f"{config.get('nearfar')}: this nearfar reads up to {_FORMAT}, so install a newer one"
        )
    tensors, _ = read_tensors(folder / WEIGHTS)
    return config, tensors


def make_folder(folder: Path) -> None:
    """Create a folder, and check that files can be written to it.

    Raises
    ------
    NearfarError
        If not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise NearfarError(
            f"{str(folder)!r} cannot be written ({reason(error)}): choose another folder"
        ) from error
