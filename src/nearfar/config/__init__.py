"""Configuration: typed sections, recipes, and options by name.

No heavy packages are imported.
"""

from nearfar.config.loss_weights import Weights, WeightSchedule, check_weights
from nearfar.config.network import (
    DEFAULT_ENCODER,
    TIMM,
    Backbone,
    ConvNet,
    NetworkConfig,
    check_backbone_name,
)
from nearfar.config.objective import (
    AugmentationName,
    ContrastiveObjective,
    NeighborSearch,
    ObjectiveConfig,
    RelationalObjective,
    SimilarityName,
)
from nearfar.config.optim import LRSchedule, Optim
from nearfar.config.options import Option, configure, flatten, implied_recipe, recipe, train_options
from nearfar.config.pretext import Denoising, Inpainting, Plain, Pretext, SplitBrain
from nearfar.config.recipes import PHOTOGRAPH_OPTIONS, RECIPES, RecipeName
from nearfar.config.train import KINDS, Recorded, TrainConfig, name_of

__all__ = [
    "DEFAULT_ENCODER",
    "KINDS",
    "PHOTOGRAPH_OPTIONS",
    "RECIPES",
    "TIMM",
    "AugmentationName",
    "Backbone",
    "ContrastiveObjective",
    "ConvNet",
    "Denoising",
    "Inpainting",
    "LRSchedule",
    "NeighborSearch",
    "NetworkConfig",
    "ObjectiveConfig",
    "Optim",
    "Option",
    "Plain",
    "Pretext",
    "RecipeName",
    "Recorded",
    "RelationalObjective",
    "SimilarityName",
    "SplitBrain",
    "TrainConfig",
    "WeightSchedule",
    "Weights",
    "check_backbone_name",
    "check_weights",
    "configure",
    "flatten",
    "implied_recipe",
    "name_of",
    "recipe",
    "train_options",
]
