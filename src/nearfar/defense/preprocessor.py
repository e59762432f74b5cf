"""ART preprocessor that purifies images; requires the `defense` extra."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from nearfar.defense.defended import device_of
from nearfar.defense.purifier import Purifier
from nearfar.errors import require

_art = require("art.defences.preprocessor.preprocessor", extra="defense")


class PurifierPreprocessor(_art.PreprocessorPyTorch):  # type: ignore[name-defined]
    """ART preprocessor that purifies the images of an ART classifier.

    Parameters
    ----------
    purifier : Purifier
        Purifier on the device that ART uses.

    Examples
    --------
    >>> from art.estimators.classification import PyTorchClassifier
    >>> from torch import nn
    >>> from nearfar.models import Autoencoder
    >>> network = Autoencoder(nn.Flatten(), nn.Unflatten(1, (1, 8, 8)))
    >>> classifier = PyTorchClassifier(
    ...     nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    ...     loss=nn.CrossEntropyLoss(),
    ...     input_shape=(1, 8, 8),
    ...     nb_classes=10,
    ...     preprocessing_defences=PurifierPreprocessor(Purifier(network, (1, 8, 8))),
    ... )
    """

    params: ClassVar[list[str]] = []

    def __init__(self, purifier: Purifier) -> None:
        on_cuda = device_of(purifier).type == "cuda"
        super().__init__(
            device_type="gpu" if on_cuda else "cpu",
            is_fitted=True,
            apply_fit=False,
            apply_predict=True,
        )
        self.purifier = purifier

    def forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        """Return purified images (float[b, c, h, w]), and the labels unchanged."""
        return self.purifier(x), y
