"""Appearance method: PCA reconstruction error of patches."""

from nearfar.anomaly.methods.appearance.method import Appearance, fit_appearance
from nearfar.anomaly.methods.appearance.principal_components import (
    MAX_STILL_CHANGE,
    Components,
    principal_components,
    still_noise,
)

__all__ = [
    "MAX_STILL_CHANGE",
    "Appearance",
    "Components",
    "fit_appearance",
    "principal_components",
    "still_noise",
]
