"""Runs: the folder of a training run, with its settings, log and trained network.

Files in a run folder, and the functions that write them:

- ``config.json``: images and settings, by `RunFolder.open` when training starts or resumes.
- ``log.jsonl``: one line of metrics per epoch, by `RunFolder.append_log`.
- ``checkpoint.safetensors``: training state, by `RunFolder.write_checkpoint`. It is removed
  when training finishes.
- ``bank/``: embeddings of the training images during training with ``bank="disk"``, by
  `nearfar.training`. It is removed when training finishes.
- ``skipped.txt``: one line per file that was not used, by `write_run`.
- ``snapshots/N.safetensors``: network after N epochs, by `nearfar.training.Snapshots`.
- ``tensorboard/``: metrics for TensorBoard, by `nearfar.training.TensorBoard`.
- ``embeddings.npy``: embeddings of the training images, by `write_run` when training finishes.
- ``model.safetensors``: trained network and initial network, by `write_run`. The initial network is
  the network at the start of the second phase. A folder with this file is a finished run.
- ``evaluation.json``: evaluation scores, by ``nearfar evaluate`` (`write_evaluation`).
- ``report/``: report, by ``nearfar report``.
- ``lock``: lock of the training process, by `RunFolder.open`. It is removed when training ends.
"""

from typing import TYPE_CHECKING

from nearfar.lazy import on_first_use

if TYPE_CHECKING:
    from nearfar.runs.checkpoint import (
        Checkpoint,
        Cursor,
        Phase,
        has_snapshot,
        read_checkpoint,
        read_snapshot,
        read_state,
        write_snapshot,
        write_state,
    )
    from nearfar.runs.config import RunConfig, RunData, read_config
    from nearfar.runs.layout import (
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
        bank_folder,
        check_folder,
        claim_folder,
        explain_damage,
        is_finished,
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

#: Module that defines each public name. Names are imported on first use: whether a folder may be
#: written is checked without torch, which takes seconds.
_HOMES = {
    "CHECKPOINT": "layout",
    "CONFIG": "layout",
    "EMBEDDINGS": "layout",
    "EVALUATION": "layout",
    "LOCK": "layout",
    "LOG": "layout",
    "MODEL": "layout",
    "REPORT": "layout",
    "SKIPPED": "layout",
    "TENSORBOARD": "layout",
    "Checkpoint": "checkpoint",
    "Cursor": "checkpoint",
    "Phase": "checkpoint",
    "Run": "run",
    "RunConfig": "config",
    "RunData": "config",
    "RunFolder": "run_folder",
    "add_prefix": "weights",
    "bank_folder": "layout",
    "check_embeddings": "run",
    "check_folder": "layout",
    "check_resumable": "run_folder",
    "claim_folder": "layout",
    "fork_run": "run_folder",
    "has_snapshot": "checkpoint",
    "is_finished": "layout",
    "load_weights": "weights",
    "make_network": "network",
    "read_checkpoint": "checkpoint",
    "read_config": "config",
    "read_evaluation": "records",
    "read_log": "records",
    "read_run": "run",
    "read_snapshot": "checkpoint",
    "read_state": "checkpoint",
    "read_tensors": "weights",
    "read_trained_network": "run",
    "explain_damage": "layout",
    "remove_checkpoint": "layout",
    "strip_prefix": "weights",
    "to_cpu": "weights",
    "write_evaluation": "records",
    "write_log": "records",
    "write_run": "run",
    "write_snapshot": "checkpoint",
    "write_state": "checkpoint",
    "write_tensors": "weights",
}

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
    "bank_folder",
    "check_embeddings",
    "check_folder",
    "check_resumable",
    "claim_folder",
    "explain_damage",
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
    "remove_checkpoint",
    "strip_prefix",
    "to_cpu",
    "write_evaluation",
    "write_log",
    "write_run",
    "write_snapshot",
    "write_state",
    "write_tensors",
]

__getattr__ = on_first_use(__name__, _HOMES)
