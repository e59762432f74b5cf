"""Networks of a run, built from the recorded configuration and the stored weights."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

from nearfar.config import NetworkConfig, SplitBrain, TrainConfig, name_of
from nearfar.data import Shape
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder, build_network
from nearfar.randomness import own_random_numbers
from nearfar.runs.config import read_config
from nearfar.runs.weights import load_weights, read_tensors, strip_prefix


def make_network(
    config: TrainConfig, shape: Shape, where: str | os.PathLike[str] | None = None
) -> Autoencoder:
    """Return a new network with initial weights for a configuration.

    Parameters
    ----------
    config : TrainConfig
        Training settings. `config.network` is the configuration of a network, or a custom network,
        which is copied.
    shape : tuple of int
        Channels, height and width of the images.
    where : Path, optional
        Run folder, for the error message.

    Raises
    ------
    NearfarError
        If `config` contains only the name of a custom network, as recorded in a run folder.

    Examples
    --------
    >>> import torch
    >>> make_network(TrainConfig(), (1, 28, 28))(torch.rand(1, 1, 28, 28)).embeddings.shape
    torch.Size([1, 128])
    """
    where = None if where is None else Path(where)
    network = config.network
    if isinstance(network, NetworkConfig):
        with own_random_numbers(config.seed):
            split = isinstance(config.pretext, SplitBrain)
            return build_network(network, shape, split_brain=split)
    if not isinstance(network, Autoencoder):
        of = "this configuration" if where is None else f"run {str(where)!r}"
        raise NearfarError(
            f"{of} has your own network {name_of(network)}: pass it, as nearfar.models.Autoencoder"
        )
    return deepcopy(network)


def read_network(
    folder: Path, path: Path, prefix: str, network: Autoencoder | None = None
) -> Autoencoder:
    """Return a network with the weights from a file in a run folder, in evaluation mode.

    Parameters
    ----------
    folder : Path
        Run folder.
    path : Path
        Safetensors file with the weights.
    prefix : str
        Prefix of the weight names in the file.
    network : Autoencoder, optional
        Required if the run was trained with a custom network: a network of the same architecture.
        The weights are loaded into a copy.
    """
    config = read_config(folder)
    built = make_network(config.train, config.data.shape, folder) if network is None else network
    tensors, _ = read_tensors(path)
    filled = deepcopy(built)
    load_weights(filled, strip_prefix(prefix, tensors), folder)
    return filled.eval()
