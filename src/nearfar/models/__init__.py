"""Autoencoders, and running them over a set of images."""

from nearfar.models.architectures import build_network as build_network
from nearfar.models.architectures import is_convolutional as is_convolutional
from nearfar.models.architectures import resolve_network as resolve_network
from nearfar.models.autoencoder import Autoencoder as Autoencoder
from nearfar.models.autoencoder import Output as Output
from nearfar.models.backbones import BACKBONES as BACKBONES
from nearfar.models.backbones import Backbone as Backbone
from nearfar.models.inference import apply as apply
from nearfar.models.inference import apply_to_all as apply_to_all
from nearfar.models.inference import resolve_device as resolve_device
from nearfar.models.projection import projection_head as projection_head
from nearfar.models.published import published_encoder as published_encoder
