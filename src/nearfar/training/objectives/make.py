"""Construction of objectives from a configuration."""

from __future__ import annotations

from typing import Any

from nearfar.config import ContrastiveObjective, Recorded, RelationalObjective, flatten
from nearfar.errors import NearfarError
from nearfar.training.objectives.base import Context, Objective
from nearfar.training.objectives.contrastive import Contrastive
from nearfar.training.objectives.relational import Relational

#: Objectives by the class of their settings.
_OBJECTIVES: dict[type, type[Objective]] = {
    ContrastiveObjective: Contrastive,
    RelationalObjective: Relational,
}


def make_objective(context: Context) -> Objective:
    """Return the objective of the second training phase.

    Raises
    ------
    NearfarError
        If the objective does not suit the images or is not an `Objective`. Also if the
        configuration was read from a run folder, and the run was trained with a custom object.

    Examples
    --------
    >>> import torch
    >>> from lightning_fabric import Fabric
    >>> from nearfar.config import TrainConfig
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> context = Context(images, TrainConfig(), Fabric(accelerator="cpu", devices=1))
    >>> type(make_objective(context)).__name__
    'Relational'
    """
    for name, value in flatten(context.config).items():
        if isinstance(value, Recorded):
            raise NearfarError(f"{name}: the run was started with your own {value.name}: pass it")
    settings: Any = context.config.objective
    objective = _OBJECTIVES.get(type(settings), settings)(context)
    if not isinstance(objective, Objective):
        raise NearfarError(
            f"objective={settings}: expected a callable that returns a nearfar.training.Objective"
        )
    return objective
