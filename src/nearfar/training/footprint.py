"""Memory and disk of a training."""

from __future__ import annotations

from nearfar.models import Autoencoder, embedding_size, state_bytes
from nearfar.training.objectives import Context, Objective


def disk_footprint(context: Context, network: Autoencoder, objective: Objective) -> dict[str, int]:
    """Estimate the peak disk space of a run folder, in bytes by purpose."""
    embeddings = 4 * len(context.images) * embedding_size(network.encoder, context.images)
    needs = {
        "model": 2 * state_bytes(network),
        # One replaces the other only when it is complete.
        "checkpoints": 2 * checkpoint_footprint(context, network, objective),
        "embeddings": embeddings,
    }
    if context.config.optim.epochs:
        needs |= objective.footprint(network).disk
    return needs


def checkpoint_footprint(context: Context, network: Autoencoder, objective: Objective) -> int:
    """Estimate the size of a checkpoint, on disk and in memory before it is written, in bytes.

    It holds the network, its initial copy, two moments per weight, and the objective's state.
    """
    needed = 4 * state_bytes(network)
    if context.config.optim.epochs:
        needed += objective.footprint(network).checkpoint
    return needed


def memory_footprint(context: Context, network: Autoencoder, objective: Objective) -> int:
    """Estimate the peak memory of embeddings, in bytes."""
    embeddings = 4 * len(context.images) * embedding_size(network.encoder, context.images)
    if not context.config.optim.epochs:
        return embeddings
    on_disk = bool(objective.footprint(network).disk)
    searching = objective.footprint(network).memory
    return searching if on_disk else max(searching, embeddings)
