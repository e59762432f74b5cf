"""Training: a resumable loop for all objectives, on any device, with one or several processes."""

from nearfar.training.callbacks import Callback, EpochFunction, Snapshots, TensorBoard
from nearfar.training.defaults import Defaults, choose_defaults, open_with_defaults
from nearfar.training.estimate import Estimate, estimate
from nearfar.training.lr_schedule import lr_factor
from nearfar.training.objectives import (
    Context,
    Contrastive,
    Footprint,
    Objective,
    PairedObjective,
    Reconstruction,
    Relational,
    Step,
    Work,
    contrastive_loss,
    make_objective,
    relational_loss,
    relational_terms,
)
from nearfar.training.optimizer_state import load_optimizer, optimizer_tensors
from nearfar.training.supervised import fit_supervised, shuffled_batches
from nearfar.training.train import resolve_config, train
from nearfar.training.trainer import Interrupted, Trainer

__all__ = [
    "Callback",
    "Context",
    "Contrastive",
    "Defaults",
    "EpochFunction",
    "Estimate",
    "Footprint",
    "Interrupted",
    "Objective",
    "PairedObjective",
    "Reconstruction",
    "Relational",
    "Snapshots",
    "Step",
    "TensorBoard",
    "Trainer",
    "Work",
    "choose_defaults",
    "contrastive_loss",
    "estimate",
    "fit_supervised",
    "load_optimizer",
    "lr_factor",
    "make_objective",
    "open_with_defaults",
    "optimizer_tensors",
    "relational_loss",
    "relational_terms",
    "resolve_config",
    "shuffled_batches",
    "train",
]
