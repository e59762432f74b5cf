"""Autoencoders, backbones, and inference on sets of images."""

from nearfar.models.architectures import build_network, is_convolutional, resolve_network
from nearfar.models.autoencoder import Autoencoder, Output
from nearfar.models.backbones import (
    BackboneEncoder,
    TimmEncoder,
    build_encoder,
    check_backbone,
    default_embedding_size,
    default_widths,
    image_size,
    pretrained_size,
)
from nearfar.models.inference import (
    INFERENCE_BATCH,
    apply,
    apply_to_all,
    embedding_size,
    resolve_device,
    state_bytes,
)
from nearfar.models.kmeans_init import check_convolutional, draw_kmeans_rows, initialize_by_kmeans
from nearfar.models.layers import check_batchnorm, initialize_autoencoder
from nearfar.models.pretrained import (
    has_packaged_weights,
    load_pretrained,
    open_pretrained,
    pretrained_encoder,
    timm_state_dict,
)
from nearfar.models.projection import PROJECTION_SIZE, projection_head
from nearfar.models.receptive_field import FeatureGrid
from nearfar.models.split_brain import first_half, second_half

__all__ = [
    "INFERENCE_BATCH",
    "PROJECTION_SIZE",
    "Autoencoder",
    "BackboneEncoder",
    "FeatureGrid",
    "Output",
    "TimmEncoder",
    "apply",
    "apply_to_all",
    "build_encoder",
    "build_network",
    "check_backbone",
    "check_batchnorm",
    "check_convolutional",
    "default_embedding_size",
    "default_widths",
    "draw_kmeans_rows",
    "embedding_size",
    "first_half",
    "has_packaged_weights",
    "image_size",
    "initialize_autoencoder",
    "initialize_by_kmeans",
    "is_convolutional",
    "load_pretrained",
    "open_pretrained",
    "pretrained_encoder",
    "pretrained_size",
    "projection_head",
    "resolve_device",
    "resolve_network",
    "second_half",
    "state_bytes",
    "timm_state_dict",
]
