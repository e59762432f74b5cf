"""The run folder: the only place that writes or reads a trained network.

A run folder holds ``config.json`` (images and settings), ``log.jsonl`` (a line per epoch), and when
training is over ``model.safetensors`` (the trained network, and the one that the second phase
started from) and ``embeddings.npy`` (of the training images). Until then ``checkpoint.safetensors``
stands for the last two. ``skipped.txt`` lists the files that were not used, if any. ``snapshots``
holds the network after some of the epochs, if asked for.
"""

from nearfar.runs.checkpoint import (
    Checkpoint,
    Cursor,
    Phase,
    has_snapshot,
    read_checkpoint,
    read_snapshot,
    read_state,
    write_state,
)
from nearfar.runs.config import RunConfig, RunData, read_config
from nearfar.runs.folder import (
    CHECKPOINT,
    CONFIG,
    EMBEDDINGS,
    EVALUATION,
    LOCK,
    LOG,
    MODEL,
    REPORT,
    SKIPPED,
    TENSORBOARD,
    check_folder,
    claim_folder,
    is_finished,
    reading,
    remove_checkpoint,
)
from nearfar.runs.network import make_network
from nearfar.runs.records import read_evaluation, read_log, write_evaluation, write_log
from nearfar.runs.run import Run, check_embeddings, read_run, read_trained_network, write_run
from nearfar.runs.run_folder import RunFolder, check_resumable, fork_run
from nearfar.runs.weights import (
    add_prefix,
    load_weights,
    read_tensors,
    strip_prefix,
    to_cpu,
    write_tensors,
)

__all__ = [
    "CHECKPOINT",
    "CONFIG",
    "EMBEDDINGS",
    "EVALUATION",
    "LOCK",
    "LOG",
    "MODEL",
    "REPORT",
    "SKIPPED",
    "TENSORBOARD",
    "Checkpoint",
    "Cursor",
    "Phase",
    "Run",
    "RunConfig",
    "RunData",
    "RunFolder",
    "add_prefix",
    "check_embeddings",
    "check_folder",
    "check_resumable",
    "claim_folder",
    "fork_run",
    "has_snapshot",
    "is_finished",
    "load_weights",
    "make_network",
    "read_checkpoint",
    "read_config",
    "read_evaluation",
    "read_log",
    "read_run",
    "read_snapshot",
    "read_state",
    "read_tensors",
    "read_trained_network",
    "reading",
    "remove_checkpoint",
    "strip_prefix",
    "to_cpu",
    "write_evaluation",
    "write_log",
    "write_run",
    "write_state",
    "write_tensors",
]
