"""What a training needs, before it begins."""

from __future__ import annotations

from torch import nn

from nearfar.data import Images
from nearfar.models import PROJECTION_SIZE, Autoencoder, embedding_size
from nearfar.neighbors import HELD_KEYS_BYTES, disk_bytes
from nearfar.training.config import TrainConfig


def disk_needs(
    config: TrainConfig, images: Images, network: Autoencoder, reference: nn.Module | None = None
) -> dict[str, int]:
    """Return the most that a run folder takes while its training goes on, in bytes, by what it is.

    Parameters
    ----------
    network : Autoencoder
        What is trained.
    reference : nn.Module, optional
        The frozen encoder, if it is not the network's own.
    """
    n, size = len(images), bank_size(config, images, network, reference)
    needs = {
        "model": 2 * _bytes(network),
        # One takes the place of another only when it is complete.
        "checkpoints": 2 * checkpoint_bytes(config, images, network, reference),
        "embeddings": 4 * n * embedding_size(network.encoder, images),
    }
    if not _relates_embeddings(config) and config.epochs and config.bank == "disk":
        needs["bank"] = disk_bytes(n, size)
        if _keeps_reconstructions(config):
            needs["embeddings of reconstructions"] = 2 * needs["bank"]
    return needs


def checkpoint_bytes(
    config: TrainConfig, images: Images, network: Autoencoder, reference: nn.Module | None = None
) -> int:
    """Return what a checkpoint takes, on the disk and, before it is written, in main memory.

    These are the network, the plain autoencoder, two moments of Adam for each weight, the
    reference, and what was found of the neighbors.

    Parameters
    ----------
    config, images, network, reference
        As for `disk_needs`.
    """
    n, size = len(images), bank_size(config, images, network, reference)
    needed = 4 * _bytes(network) + _bytes(reference or network.encoder)
    if _relates_embeddings(config) and config.refresh:
        needed += 4 * n * size
    if _searches_by_epoch(config):
        needed += 2 * 8 * n * config.neighbors
    if _keeps_reconstructions(config) and config.bank == "memory":
        needed += 4 * n * size
    return needed


def memory_needs(
    config: TrainConfig, images: Images, network: Autoencoder, reference: nn.Module | None = None
) -> int:
    """Return the most that embeddings of all images take in memory, in bytes.

    While neighbors are searched for, these are the bank, its keys if they are held, and what is
    searched for: the embeddings of the reconstructions or, where embeddings are related, their
    directions; afterwards the final embeddings.

    Parameters
    ----------
    config, images, network, reference
        As for `disk_needs`.
    """
    n = len(images)
    bank = 4 * n * bank_size(config, images, network, reference)
    keys = bank if bank <= HELD_KEYS_BYTES else 0
    embeddings = 4 * n * embedding_size(network.encoder, images)
    if not config.epochs:
        searching = 0
    elif _relates_embeddings(config):
        searching = bank + keys + bank if config.refresh else 0
    elif config.bank == "disk":
        return keys
    else:
        searching = bank + keys + (bank if _keeps_reconstructions(config) else 0)
    return max(searching, embeddings)


def bank_size(
    config: TrainConfig, images: Images, network: Autoencoder, reference: nn.Module | None = None
) -> int:
    """Return how long the embeddings are that neighbors are searched for in."""
    if _relates_embeddings(config):
        return PROJECTION_SIZE
    return embedding_size(reference or network.encoder, images)


def _relates_embeddings(config: TrainConfig) -> bool:
    return config.relation == "embeddings" and config.epochs > 0


def _searches_by_epoch(config: TrainConfig) -> bool:
    searching = config.relation == "reconstructions" and config.schedule().relational
    return searching and config.epochs > 0 and config.search == "epoch"


def _keeps_reconstructions(config: TrainConfig) -> bool:
    return _searches_by_epoch(config) and config.relative_to == "reconstruction"


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())
