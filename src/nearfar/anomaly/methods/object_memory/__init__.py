"""Memory of moving objects: one is abnormal if its features are far from all normal ones."""

from nearfar.anomaly.methods.object_memory.method import ObjectMemory

__all__ = ["ObjectMemory"]
