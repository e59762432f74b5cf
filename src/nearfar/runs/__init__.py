"""The run folder: the only place that writes or reads a trained model.

A run folder holds ``config.json`` (what was trained, on what, how), ``log.jsonl`` (a line an
epoch), and when training is over ``model.safetensors`` (the trained autoencoder and the plain one
it started from) and ``embeddings.npy`` (the embeddings of the training images). Until then
``checkpoint.safetensors`` stands for the last two. Where it was asked for, ``snapshots`` holds the
network as it was after some of the epochs.
"""

from nearfar.runs.checkpoint import (
    has_snapshot,
    read_checkpoint,
    read_snapshot,
    write_checkpoint,
    write_snapshot,
)
from nearfar.runs.config import (
    FORMAT,
    read_config,
    write_config,
)
from nearfar.runs.folder import (
    BANK,
    CHECKPOINT,
    CONFIG,
    EMBEDDINGS,
    EVALUATION,
    LOCK,
    LOG,
    MODEL,
    OWN,
    REPORT,
    SNAPSHOTS,
    TENSORBOARD,
    bank_folder,
    check_folder,
    claim_folder,
    hold,
    is_finished,
    reading,
    remove_checkpoint,
    remove_unfinished,
)
from nearfar.runs.records import (
    append_log,
    read_evaluation,
    read_log,
    write_evaluation,
    write_log,
)
from nearfar.runs.run import (
    TrainedRun,
    read_network,
    read_run,
    write_run,
)
from nearfar.runs.weights import (
    build,
    load_weights,
    read_tensors,
    to_write,
    write_tensors,
)

__all__ = [
    "BANK",
    "CHECKPOINT",
    "CONFIG",
    "EMBEDDINGS",
    "EVALUATION",
    "FORMAT",
    "LOCK",
    "LOG",
    "MODEL",
    "OWN",
    "REPORT",
    "SNAPSHOTS",
    "TENSORBOARD",
    "TrainedRun",
    "append_log",
    "bank_folder",
    "build",
    "check_folder",
    "claim_folder",
    "has_snapshot",
    "hold",
    "is_finished",
    "load_weights",
    "read_checkpoint",
    "read_config",
    "read_evaluation",
    "read_log",
    "read_network",
    "read_run",
    "read_snapshot",
    "read_tensors",
    "reading",
    "remove_checkpoint",
    "remove_unfinished",
    "to_write",
    "write_checkpoint",
    "write_config",
    "write_evaluation",
    "write_log",
    "write_run",
    "write_snapshot",
    "write_tensors",
]
