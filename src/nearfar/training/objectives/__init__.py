"""Training objectives: losses and their state."""

from nearfar.training.objectives.base import (
    Context,
    Footprint,
    Objective,
    PairedObjective,
    Step,
    Work,
)
from nearfar.training.objectives.contrastive import Contrastive
from nearfar.training.objectives.losses import (
    RelationalTerms,
    contrastive_loss,
    relational_loss,
    relational_terms,
)
from nearfar.training.objectives.make import make_objective
from nearfar.training.objectives.reconstruction import Reconstruction
from nearfar.training.objectives.relational import Relational

__all__ = [
    "Context",
    "Contrastive",
    "Footprint",
    "Objective",
    "PairedObjective",
    "Reconstruction",
    "Relational",
    "RelationalTerms",
    "Step",
    "Work",
    "contrastive_loss",
    "make_objective",
    "relational_loss",
    "relational_terms",
]
