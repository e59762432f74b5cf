"""Built-in anomaly methods, with a subpackage for each.

Importing this package registers the methods.
"""

from nearfar.anomaly.methods.appearance import Appearance
from nearfar.anomaly.methods.cut_paste import CutPaste
from nearfar.anomaly.methods.memory import ImageMemory, ObjectMemory, PatchMemory
from nearfar.anomaly.methods.motion import Motion
from nearfar.anomaly.methods.nre import EmbeddingDistance, Reconstruction

__all__ = [
    "Appearance",
    "CutPaste",
    "EmbeddingDistance",
    "ImageMemory",
    "Motion",
    "ObjectMemory",
    "PatchMemory",
    "Reconstruction",
]
