"""Networks of a run, built from its record and filled with its weights."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from nearfar.config import Backbone, ConvNet, SplitBrain, TrainConfig, name_of
from nearfar.data import Shape
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder, build_network
from nearfar.randomness import own_random_numbers
from nearfar.runs.config import read_config
from nearfar.runs.weights import load_weights, read_tensors, strip_prefix


def make_network(config: TrainConfig, shape: Shape, where: Path | None = None) -> Autoencoder:
    """Build the network of a configuration for images of a shape (c, h, w), or copy your own.

    Raises
    ------
    NearfarError
        If only the name of your own network was recorded.

    Examples
    --------
    >>> make_network(TrainConfig(), (1, 28, 28))(torch.rand(1, 1, 28, 28)).embeddings.shape
    torch.Size([1, 128])
    """
    network = config.network
    if isinstance(network, ConvNet | Backbone):
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
    """Read a network of a run from a file of its folder, in evaluation mode.

    Parameters
    ----------
    path : Path
        The safetensors file.
    prefix : str
        Of the names of its weights in the file.
    network : Autoencoder, optional
        Your own, if the run was trained with it; a copy is filled with the weights.
    """
    config = read_config(folder)
    built = make_network(config.train, config.data.shape, folder) if network is None else network
    tensors, _ = read_tensors(path)
    filled = deepcopy(built)
    load_weights(filled, strip_prefix(prefix, tensors), folder)
    return filled.eval()
