"""Autoencoder trained by nearfar: its reconstruction error, as in the paper, and its embeddings."""

from nearfar.anomaly.methods.nre.method import EmbeddingDistance, Reconstruction

__all__ = ["EmbeddingDistance", "Reconstruction"]
