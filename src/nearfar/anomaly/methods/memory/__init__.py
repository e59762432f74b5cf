"""Memory methods: images, patches or objects are abnormal if they are unlike all normal ones."""

from nearfar.anomaly.methods.memory.coreset import choose_centers
from nearfar.anomaly.methods.memory.encoder import PatchEncoder, has_default_encoder
from nearfar.anomaly.methods.memory.image_memory import ImageMemory, resemblance
from nearfar.anomaly.methods.memory.object_memory import ObjectMemory
from nearfar.anomaly.methods.memory.patch_memory import PatchMemory

__all__ = [
    "ImageMemory",
    "ObjectMemory",
    "PatchEncoder",
    "PatchMemory",
    "choose_centers",
    "has_default_encoder",
    "resemblance",
]
