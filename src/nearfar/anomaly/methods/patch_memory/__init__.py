"""Memory of normal patches: a patch is abnormal if its features are far from all of them."""

from nearfar.anomaly.methods.patch_memory.coreset import choose_centers
from nearfar.anomaly.methods.patch_memory.encoder import PatchEncoder, has_default_encoder
from nearfar.anomaly.methods.patch_memory.method import PatchMemory

__all__ = [
    "PatchEncoder",
    "PatchMemory",
    "choose_centers",
    "has_default_encoder",
]
