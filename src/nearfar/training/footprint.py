"""Estimates of the memory and disk space of a training run."""

from __future__ import annotations

from nearfar.models import Autoencoder, embedding_size, state_bytes
from nearfar.training.objectives import Context, Objective


def disk_footprint(context: Context, network: Autoencoder, objective: Objective) -> dict[str, int]:
    """Return the estimated peak disk space of a run folder, in bytes, by purpose."""
    embeddings = 4 * len(context.images) * embedding_size(network.encoder, context.images)
    needs = {
        "model": 2 * state_bytes(network),
        # A new checkpoint replaces the previous one only when it is complete.
        "checkpoints": 2 * checkpoint_footprint(context, network, objective),
        "embeddings": embeddings,
    }
    if context.config.optim.epochs:
        needs |= objective.footprint(network).disk
    return needs


def checkpoint_footprint(context: Context, network: Autoencoder, objective: Objective) -> int:
    """Return the estimated size of a checkpoint in bytes, on disk or in memory.

    A checkpoint contains the network, a copy of the initial network, two optimizer moments per
    weight, and the state of the objective.
    """
    needed = 4 * state_bytes(network)
    if context.config.optim.epochs:
        needed += objective.footprint(network).checkpoint
    return needed


def memory_footprint(context: Context, network: Autoencoder, objective: Objective) -> int:
    """Return the estimated peak memory for embeddings and for the search, in bytes."""
    embeddings = 4 * len(context.images) * embedding_size(network.encoder, context.images)
    if not context.config.optim.epochs:
        return embeddings
    searching = objective.footprint(network).memory
    return searching if objective.on_disk else max(searching, embeddings)
