"""NRE methods: reconstruction error, as in the paper, and embedding distance."""

from nearfar.anomaly.methods.nre.method import EmbeddingDistance, Reconstruction

__all__ = ["EmbeddingDistance", "Reconstruction"]
