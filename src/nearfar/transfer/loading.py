"""Loading of fine-tuned networks."""

from __future__ import annotations

import os
from pathlib import Path

from nearfar.errors import NearfarError, reason
from nearfar.transfer.classification import FinetunedClassifier
from nearfar.transfer.detection import FinetunedDetector
from nearfar.transfer.layout import CONFIG
from nearfar.transfer.segmentation import FinetunedSegmenter
from nearfar.transfer.storage import read_finetuned

Finetuned = FinetunedClassifier | FinetunedDetector | FinetunedSegmenter

_TASKS = {each.task: each for each in (FinetunedClassifier, FinetunedDetector, FinetunedSegmenter)}


def load_finetuned(folder: str | os.PathLike[str]) -> Finetuned:
    """Return a fine-tuned network from a folder, on the CPU and in evaluation mode.

    Code in the files is never executed.

    Parameters
    ----------
    folder : path
        Folder written by `save` or ``nearfar transfer``. If it contains classifiers for several
        protocols, pass the subfolder "linear", "fc" or "all".

    Returns
    -------
    FinetunedClassifier, FinetunedDetector or FinetunedSegmenter
        Fine-tuned network. The method `predict` returns class probabilities, boxes or label maps.

    Raises
    ------
    NearfarError
        If the folder does not contain exactly one fine-tuned network, or a file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from nearfar.data import ArrayImages
    >>> from nearfar.transfer import BackboneSpec, finetune_classifier, split_labeled_images
    >>> pixels = np.random.default_rng(0).random((20, 3, 64, 64), np.float32)
    >>> train, _ = split_labeled_images(ArrayImages(pixels, np.arange(20) % 2))
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> classifier = finetune_classifier(spec.build(), train, "linear", device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     classifier.save(folder)
    ...     load_finetuned(folder).predict(pixels).shape
    (20, 2)
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        subfolders = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
        if len(subfolders) > 1:
            raise NearfarError(
                f"{str(folder)!r} holds several networks: expected one of "
                f"{', '.join(map(str, subfolders))}"
            )
        folder = subfolders[0] if subfolders else folder
    config, tensors = read_finetuned(folder)
    try:
        return _TASKS[config["task"]].from_config(config, tensors)
    except NearfarError:
        raise
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise NearfarError(
            f"fine-tuned network {str(folder)!r} is damaged ({reason(error)})"
        ) from error
