"""Pretext tasks: image corruptions that a network is trained to reverse."""

from nearfar.pretext.corruptions import (
    AdversarialNoise,
    CentralHole,
    CorruptedImages,
    Corruption,
    GaussianNoise,
    Identity,
    MaskingNoise,
    RandomHoles,
    fill_missing,
    make_corruption,
    pixel_errors,
)

__all__ = [
    "AdversarialNoise",
    "CentralHole",
    "CorruptedImages",
    "Corruption",
    "GaussianNoise",
    "Identity",
    "MaskingNoise",
    "RandomHoles",
    "fill_missing",
    "make_corruption",
    "pixel_errors",
]
