"""The frozen encoder that reconstructions are related in, where it is not the autoencoder's own."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from nearfar.data import Images, to_unit
from nearfar.errors import NearfarError, reason
from nearfar.models import pretrained_encoder
from nearfar.models.backbones import check_backbone
from nearfar.training.config import TrainConfig


def make_reference(
    config: TrainConfig, given: nn.Module | None, images: Images
) -> nn.Module | None:
    """Return a frozen encoder of other origin than the plain autoencoder, if there is to be one.

    Parameters
    ----------
    given : nn.Module, optional
        One of the caller's own.

    Raises
    ------
    NearfarError
        If it does not fit the images or the configuration, or its weights cannot be had.
    """
    if given is not None and config.relation != "reconstructions":
        raise NearfarError("a reference with relation='embeddings', which knows none: give none")
    if given is not None and config.refresh:
        raise NearfarError(
            f"refresh={config.refresh} with a reference, which stays as it is: expected refresh=0"
        )
    if config.reference is not None:
        check_backbone(config.reference, images.shape)
        weights = config.reference_weights
        return pretrained_encoder(config.reference, None if weights is None else Path(weights))
    if given is None:
        return None
    reference = copy.deepcopy(given).eval()
    try:
        with torch.no_grad():
            shape = tuple(reference(to_unit(images[0]).unsqueeze(0)).shape)
    except Exception as error:  # of an encoder of the caller's own nearly any
        raise NearfarError(
            f"the reference does not take images of shape {images.shape}: {reason(error)}"
        ) from error
    if len(shape) != 2:
        raise NearfarError(f"the reference makes embeddings {shape} of an image: expected (1, d)")
    return reference
