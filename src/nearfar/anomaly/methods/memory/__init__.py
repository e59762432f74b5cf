"""Memory of normal features: a patch or an object is abnormal if it is far from all of them."""

from nearfar.anomaly.methods.memory.coreset import choose_centers
from nearfar.anomaly.methods.memory.encoder import PatchEncoder, has_default_encoder
from nearfar.anomaly.methods.memory.object_memory import ObjectMemory
from nearfar.anomaly.methods.memory.patch_memory import PatchMemory

__all__ = [
    "ObjectMemory",
    "PatchEncoder",
    "PatchMemory",
    "choose_centers",
    "has_default_encoder",
]
