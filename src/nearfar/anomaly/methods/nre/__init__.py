"""Autoencoder trained by nearfar: reconstruction error, as in the paper, and embeddings."""

from nearfar.anomaly.methods.nre.method import EmbeddingDistance, Reconstruction

__all__ = ["EmbeddingDistance", "Reconstruction"]
