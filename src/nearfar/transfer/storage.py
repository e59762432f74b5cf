"""Output folders, and files of fine-tuned networks: weights and configuration."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nearfar.errors import NearfarError, reason
from nearfar.files import (
    is_unfinished_output,
    remove_empty_on_failure,
    remove_leftovers,
    unfinished_output,
    write_json,
)
from nearfar.runs import read_tensors, to_cpu, write_tensors
from nearfar.transfer.layout import CONFIG, WEIGHTS

#: Format version, incremented whenever an older nearfar could not read the files.
_FORMAT = 1


def write_finetuned(folder: Path, network: nn.Module, config: Mapping[str, Any]) -> None:
    """Write the weights of a fine-tuned network and, last, its configuration to a folder.

    A folder without the configuration is incomplete.
    """
    make_folder(folder)
    (folder / CONFIG).unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, to_cpu(network.state_dict()))
    write_json(folder / CONFIG, {"format": _FORMAT, "nearfar": version("nearfar"), **config})


def read_finetuned(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration and the weights of a fine-tuned network.

    Raises
    ------
    NearfarError
        If a file is missing or damaged, or has a newer format.
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


@contextmanager
def claim_folder(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Context manager that creates a folder, and removes it again if it is empty after an error.

    If `folder` is None, nothing is done.

    Raises
    ------
    NearfarError
        If the folder cannot be created or is not writable.

    Examples
    --------
    >>> from contextlib import suppress
    >>> with tempfile.TemporaryDirectory() as root:
    ...     with suppress(ZeroDivisionError), claim_folder(Path(root, "a", "b")):
    ...         1 / 0
    ...     list(Path(root).iterdir())
    []
    """
    if folder is None:
        yield
        return
    with remove_empty_on_failure(Path(folder)):
        make_folder(Path(folder))
        yield


@contextmanager
def open_output(folder: Path, names: Collection[str]) -> Iterator[None]:
    """Context manager that marks a folder as unfinished while output is written to it.

    Unfinished output of an earlier process is removed first.

    Parameters
    ----------
    folder : Path
        Output folder, created if needed.
    names : collection of str
        Names of all files and subfolders that may be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as root:
    ...     with open_output(Path(root), {"scores.json"}):
    ...         Path(root, "scores.json").touch()
    ...     [path.name for path in Path(root).iterdir()]
    ['scores.json']
    """
    make_folder(folder)
    if is_unfinished_output(folder):
        for path in [folder / name for name in names]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    remove_leftovers(folder)
    with unfinished_output(folder):
        yield


def make_folder(folder: Path) -> None:
    """Create a folder, and check that files can be written to it.

    Raises
    ------
    NearfarError
        If the folder cannot be created or is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b" ")
    except OSError as error:
        raise NearfarError(
            f"{str(folder)!r} cannot be written ({reason(error)}): choose another folder"
        ) from error
