"""Rows of tables of trained networks, and import of rows from a file of the user."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from nearfar.config import TrainConfig, configure
from nearfar.errors import NearfarError, reason
from nearfar.experiments.cells import Key, Papers


@dataclass(frozen=True, kw_only=True)
class Row:
    """Row in a table of trained networks.

    Parameters
    ----------
    config : TrainConfig, optional
        Training configuration. The table sets the seed and the total number of epochs, which is
        divided between the two phases in the same proportion as in the configuration. Default: no
        training; embeddings are the outputs of `encoder`.
    paper : mapping
        Numbers from the paper, by the key `Column.paper`.
    decoder : bool
        Whether a decoder is trained, so that the pixel error can be measured.
    quick : mapping
        Training options to override with `--quick`, see `nearfar.config.configure`.

    Examples
    --------
    >>> from nearfar.config import recipe
    >>> Row(config=recipe("nearfar", temperature=0.1)).config.objective.temperature
    0.1
    """

    config: TrainConfig | None = None
    paper: Papers = field(default_factory=dict)
    decoder: bool = True
    quick: Mapping[str, Any] = field(default_factory=dict)

    def encoder(self) -> nn.Module:
        """Return the encoder of a row without training. By default, it returns raw pixels."""
        return nn.Flatten()

    def describe(self) -> dict[str, Any]:
        """Return the settings that affect the results, except for `config`, as JSON types."""
        return {}


@dataclass(frozen=True)
class Network:
    """Network that is shared by several rows and trained only once.

    Parameters
    ----------
    name : str
        Name of the run.
    config : TrainConfig
        Training configuration. The table sets the seed and the number of epochs, see `train_for`.

    Examples
    --------
    >>> from nearfar.config import recipe
    >>> Network("NRE", recipe("paper")).run(seed=0)
    'NRE-seed-0'
    """

    name: str
    config: TrainConfig

    def run(self, seed: int) -> str:
        """Return the name of the run with the given seed."""
        return Key(self.name, seed).name

    def train_for(self, epochs: int, **options: Any) -> TrainConfig:
        """Return the configuration with another number of epochs, see the function `train_for`."""
        return train_for(self.config, epochs, **options)


def train_for(config: TrainConfig, epochs: int, **options: Any) -> TrainConfig:
    """Return a copy of a configuration with another total number of epochs.

    Parameters
    ----------
    config : TrainConfig
        Configuration to change.
    epochs : int
        Total number of epochs. It is divided between the two phases in the same proportion as in
        `config`.
    **options
        Other options to change, see `nearfar.config.configure`.

    Raises
    ------
    NearfarError
        If there are too few epochs for the phases, or an option is invalid.

    Examples
    --------
    >>> from nearfar.config import recipe
    >>> optim = train_for(recipe("paper", pretrain_epochs=20, epochs=20), 5).optim
    >>> optim.pretrain_epochs, optim.epochs
    (3, 2)
    """
    optim = config.optim
    second = epochs * optim.epochs // (optim.pretrain_epochs + optim.epochs)
    if optim.pretrain_epochs and optim.epochs and not (0 < second < epochs):
        raise NearfarError(f"epochs={epochs}: expected at least 2, some of them for each phase")
    changes = {"pretrain_epochs": epochs - second, "epochs": second, **options}
    return configure(changes, base=config)


def read_rows(path: Path) -> Mapping[str, Any]:
    """Import a Python file, and return the mapping ``ROWS`` of labels to rows that it defines.

    Raises
    ------
    NearfarError
        If the file cannot be imported, or does not define ``ROWS``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "further_rows.py")
    ...     _ = path.write_text("from nearfar.experiments import Row; ROWS = {'mine': Row()}")
    ...     list(read_rows(path))
    ['mine']
    """
    found = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or found is None or found.loader is None:
        raise NearfarError(f"{str(path)!r}: expected a Python file with ROWS")
    module = importlib.util.module_from_spec(found)
    known = sys.modules.setdefault(path.stem, module)
    if known is not module and getattr(known, "__file__", None) != module.__file__:
        raise NearfarError(f"{str(path)!r}: a module {path.stem} exists already: rename the file")
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise NearfarError(f"{str(path)!r} cannot be imported ({reason(error)})") from error
    rows = getattr(module, "ROWS", None)
    if not isinstance(rows, Mapping) or not all(isinstance(name, str) for name in rows):
        raise NearfarError(f"{str(path)!r}: expected ROWS, a mapping of labels to rows")
    return rows
