"""Pretext tasks: corruptions of images that a network learns to undo."""

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
