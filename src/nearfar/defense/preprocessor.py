"""A purifier inside ART, for its attacks and classifiers; needs the extra `defense`."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from nearfar.defense.guard import device_of
from nearfar.defense.purifier import Purifier
from nearfar.errors import require

_art = require("art.defences.preprocessor.preprocessor", extra="defense")


class PurifierPreprocessor(_art.PreprocessorPyTorch):  # type: ignore[name-defined]
    """Purifies what an ART classifier sees.

    Parameters
    ----------
    purifier : Purifier
        Moved to the device that ART uses.

    Examples
    --------
    >>> PyTorchClassifier(..., preprocessing_defences=PurifierPreprocessor(purifier))
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
        """Purify images; labels pass."""
        return self.purifier(x), y
