"""Estimator in the style of scikit-learn: ``NRE().fit(images).transform(images)``."""

from __future__ import annotations

import inspect
import math
import os
import sys
import warnings
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from nearfar.config import RecipeName, TrainConfig
from nearfar.data import (
    Images,
    Layout,
    Shape,
    as_array,
    images_from_rows,
    images_to_array,
    layout_of,
    pixel_range_of,
    shape_of_rows,
    warn_about_scale,
    warn_if_dark,
)
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder, apply_to_all, resolve_device
from nearfar.neighbors import ExactFinder, fit_similarity
from nearfar.progress import Track, silent
from nearfar.runs import claim_folder, read_run, write_log, write_run
from nearfar.training import choose_defaults, train

#: Parameters that are not training options.
OTHER_PARAMETERS = {"config", "image_shape", "recipe", "verbose"}

#: Default number of neighbors.
DEFAULT_NEIGHBORS = 5
#: Number of embeddings to decode at once.
DECODED_ROWS = 512


class NRE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Estimator that learns image embeddings without labels, by neighborhood-relational encoding.

    Similar images have nearby embeddings, and dissimilar images have distant ones. By default,
    training depends on the images, as for ``nearfar train``: on photographs, it starts from a
    pretrained encoder if one is installed; on other images, it starts from scratch. With
    ``recipe="paper"``, training follows [1]_.

    Images are arrays or tensors of shape n×h×w or n×h×w×c with c = 1 or 3, or flattened to
    n×features; or any `nearfar.data.Images`. Values are uint8, or floats on any scale. Floats in
    [0, 1] are used unchanged. Other floats are scaled by the smallest and largest values of the
    images that were passed to `fit`.

    Parameters
    ----------
    recipe : {"auto", "paper", "nearfar", "continue"}
        Recipe that defines the values of parameters that are None. "auto" chooses a recipe
        according to the images. See `nearfar.training.choose_defaults`.
    embedding_size : int, optional
        Length d of an embedding.
    loss_weights : tuple of float, optional
        Weights λ₁, λ₂, λ₃ of the image, near samples and far samples (Eq. 1). Weights are
        nonnegative and sum to 1. Only for the relational objective of the paper.
    neighbors : int, optional
        Number T of near samples and of far samples per image (Eq. 5).
    clusters : int, optional
        Number of k-means clusters for the neighbor search.
    pretrain_epochs, epochs : int, optional
        Epochs of plain autoencoder training, and epochs of training with the objective. By default,
        plain autoencoder training is only part of the recipe "paper".
    batch_size : int, optional
        Number of images per training step.
    lr : float, optional
        Learning rate of Adam in the second phase.
    backbone : str, optional
        Standard encoder: "alexnet" or "timm:NAME". Initial weights are pretrained with the recipe
        "continue", and otherwise random.
    seed : int
        Random seed for initial weights, image order and all sampling.
    device : str
        Device to train on. "auto" uses a GPU if available.
    image_shape : tuple of int, optional
        Shape (h, w) or (h, w, c) of flattened images. Default: rows of h² values with h ≥ 8 are
        square grayscale images; other rows are feature vectors, for which the network is fully
        connected.
    config : TrainConfig, optional
        All training settings, in place of all parameters above except `image_shape`. With a
        configuration, other objectives, pretext tasks, neighbor searches and custom networks can be
        used. See `nearfar.recipe`.
    verbose : bool
        Whether to show progress.

    Attributes
    ----------
    run_ : Run
        Run with the trained network, the initial network, embeddings, settings and metrics.
    embeddings_ : float32[n, d]
        Embeddings of the training images.
    n_features_in_ : int
        Number of values per image, h·w·c.

    References
    ----------
    .. [1] M. Sabokrou, M. Khalooei, E. Adeli, "Self-Supervised Representation Learning via
       Neighborhood-Relational Encoding", ICCV 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from nearfar import NRE
    >>> digits = load_digits().images / 16
    >>> embeddings = NRE(embedding_size=32, pretrain_epochs=1, epochs=1).fit_transform(digits)
    >>> embeddings.shape
    (1797, 32)
    """

    def __init__(
        self,
        *,
        recipe: Literal["auto"] | RecipeName = "auto",
        embedding_size: int | None = None,
        loss_weights: tuple[float, float, float] | None = None,
        neighbors: int | None = None,
        clusters: int | None = None,
        pretrain_epochs: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        backbone: str | None = None,
        seed: int = 0,
        device: str = "auto",
        image_shape: tuple[int, ...] | None = None,
        config: TrainConfig | None = None,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.embedding_size = embedding_size
        self.loss_weights = loss_weights
        self.neighbors = neighbors
        self.clusters = clusters
        self.pretrain_epochs = pretrain_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.backbone = backbone
        self.seed = seed
        self.device = device
        self.image_shape = image_shape
        self.config = config
        self.verbose = verbose

    def fit(self, X: npt.ArrayLike | Images, y: object = None) -> Self:
        """Train on images. `y` is ignored.

        Raises
        ------
        NearfarError
            If the parameters conflict, or are invalid for the images.

        Warns
        -----
        UserWarning
            If the brightest pixel is below 1/16 of white.
        """
        if isinstance(X, Images):
            images = X
        else:
            rows, given, layout = self._rows(X, fitting=True)
            shape = given or shape_of_rows(rows.shape[1], self.image_shape)
            pixel_range = pixel_range_of(rows)
            if pixel_range in ((0, 1), (0, 255)) and shape[1] > 1:
                warn_if_dark([rows], pixel_range[1], "X", stacklevel=2)
            images = images_from_rows(rows, shape, pixel_range)
            images.origin = {
                "layout": layout,
                "image_shape": self.image_shape,
                "pixel_range": pixel_range,
            }
        self.run_ = train(images, self._config(images), track=self._track())
        self.n_features_in_ = math.prod(images.shape)
        return self

    def transform(self, X: npt.ArrayLike | Images) -> npt.NDArray[np.float32]:
        """Return the embeddings of images (float32[n, d])."""
        return self._encode(X)

    def inverse_transform(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Decode embeddings (float[n, d]), and return images in the layout and scale of `fit`."""
        check_is_fitted(self)
        embeddings = as_array(X, "X").astype(np.float32)
        if embeddings.ndim != 2 or embeddings.shape[1] != self._n_features_out:
            raise NearfarError(
                f"embeddings of shape {embeddings.shape}: expected (n, {self._n_features_out})"
            )
        device = self._device()
        decoder = self.run_.network.decoder.to(device)
        parts = torch.from_numpy(embeddings).split(DECODED_ROWS)
        with torch.no_grad():
            decoded = torch.cat([decoder(part.to(device)).cpu() for part in parts])
        return images_to_array(decoded, self._layout, self._pixel_range)

    def reconstruct(self, X: npt.ArrayLike | Images) -> npt.NDArray[Any]:
        """Return reconstructions of images in the layout of `X`, on the scale of `fit`."""
        check_is_fitted(self)
        images, layout = self._read(X)
        decoded = self._apply(lambda batch: self.run_.network(batch).reconstruction, images)
        return images_to_array(decoded, layout, self._pixel_range)

    def kneighbors(
        self,
        X: npt.ArrayLike | Images | None = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
        *,
        far: bool = False,
    ) -> npt.NDArray[np.int64] | tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Find the training images with the most (or least) similar embeddings.

        Parameters
        ----------
        X : array or Images, optional
            Query images. Default: the training images, where an image is not its own neighbor.
        n_neighbors : int, optional
            Number T of neighbors per query. The maximum is the number of training images, or one
            less if `X` is None. Default: 5.
        return_distance : bool
            Whether to also return the distances, 1 − similarity.
        far : bool
            Whether to find the least similar images instead.

        Returns
        -------
        distances : float32[n, T]
            Distances from the n queries to their neighbors. Only returned if `return_distance` is
            true.
        rows : int64[n, T]
            Indices of the neighbors among the training images. The most similar neighbor is first
            or, if `far` is true, the least similar.

        Raises
        ------
        NearfarError
            If `n_neighbors` is out of range, or the images do not have the shape of the training
            images.
        """
        check_is_fitted(self)
        count = _count(n_neighbors, len(self.embeddings_) - (X is None))
        bank = torch.from_numpy(np.array(self.embeddings_))
        queries = bank if X is None else torch.from_numpy(self._encode(X))
        own = torch.arange(len(bank)) if X is None else torch.full((len(queries),), -1)
        similarity = fit_similarity(self._fitted_config.similarity, bank)
        finder = ExactFinder(count, includes_queries=X is None).fit(bank, similarity)
        found = finder.search(queries, own)
        rows = found.far if far else found.near
        if not return_distance:
            return rows.numpy()
        distances = torch.stack([1 - similarity(queries, bank[column]) for column in rows.T], dim=1)
        return distances.clamp_min(0).numpy(), rows.numpy()

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the run to a folder, as ``nearfar train`` does.

        Raises
        ------
        NearfarError
            If the folder exists and is not empty, and `overwrite` is false.
        """
        check_is_fitted(self)
        path = Path(folder)
        claim_folder(path, overwrite=overwrite)
        write_log(path, self.run_.log)
        write_run(path, self.run_)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, network: Autoencoder | None = None) -> Self:
        """Return the estimator of a run, read from its folder.

        Parameters
        ----------
        folder : str or path
            Run folder from `save`, `nearfar.train` or ``nearfar train``.
        network : Autoencoder, optional
            Custom network, required if the run was trained with one. To use a custom similarity in
            `kneighbors`, set it in the `config` of the returned estimator.

        Raises
        ------
        NearfarError
            If the run is missing, unfinished or damaged, or has another format or network.
        """
        run = read_run(folder, network)
        config = run.config.train
        if network is not None:
            config = replace(config, network=network)
        try:
            resolve_device(config.device)
        except NearfarError:  # from another machine
            config = replace(config, device="auto")
        model = cls(config=config, image_shape=run.config.data.image_shape)
        model.run_ = run
        model.n_features_in_ = math.prod(run.config.data.shape)
        return model

    @property
    def embeddings_(self) -> npt.NDArray[np.float32]:
        """Embeddings of the training images (float32[n, d])."""
        return self.run_.embeddings

    @property
    def _shape(self) -> Shape:
        return self.run_.config.data.shape

    @property
    def _layout(self) -> Layout:
        return self.run_.config.data.layout or ("gray" if self._shape[0] == 1 else "color")

    @property
    def _pixel_range(self) -> tuple[float, float]:
        return self.run_.config.data.pixel_range

    @property
    def _n_features_out(self) -> int:
        return int(self.embeddings_.shape[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.three_d_array = True
        return tags

    def _config(self, images: Images) -> TrainConfig:
        """Return the configuration for training on images."""
        parameters = self.get_params(deep=False)
        options = {name: parameters[name] for name in parameters.keys() - OTHER_PARAMETERS}
        if self.config is None:
            named = None if self.recipe == "auto" else self.recipe
            chosen = choose_defaults(images, options, named)
            if chosen.warning:
                warnings.warn(chosen.warning, stacklevel=3)
            if self.verbose:
                print(chosen.description, file=sys.stderr)
            return chosen.config
        for name, parameter in inspect.signature(type(self)).parameters.items():
            given = parameters[name]
            if name not in OTHER_PARAMETERS - {"recipe"} and given != parameter.default:
                raise NearfarError(
                    f"{name}={given} together with config: expected one of them; "
                    f"configure({{{name!r}: …}}, base=config) changes a setting"
                )
        return self.config

    @property
    def _fitted_config(self) -> TrainConfig:
        """Return `config` if given, or the configuration of the run.

        `config` may contain custom objects, of which runs record only the names.
        """
        return self.config or self.run_.config.train

    def _device(self) -> torch.device:
        return resolve_device(self.device if self.config is None else self.config.device)

    def _track(self) -> Track:
        if not self.verbose:
            return silent
        from rich.console import Console

        from nearfar.progress import Bars

        return Bars(Console(stderr=True))

    def _encode(self, X: npt.ArrayLike | Images) -> npt.NDArray[np.float32]:
        check_is_fitted(self)
        images, _ = self._read(X)
        return self._apply(self.run_.network.encoder, images).numpy()

    def _apply(self, function: Any, images: Images) -> Tensor:
        device = self._device()
        self.run_.network.to(device).eval()
        return apply_to_all(function, images, device=device, track=self._track())

    def _read(self, X: npt.ArrayLike | Images) -> tuple[Images, Layout]:
        """Convert `X` to images after checking that it matches the training images.

        Also return the layout of `X`.
        """
        if isinstance(X, Images):
            if X.shape != self._shape:
                raise NearfarError(
                    f"{X.name!r} has images of shape {X.shape}, the model was trained on "
                    f"{self._shape}"
                )
            return X, "gray" if X.shape[0] == 1 else "color"
        rows, given, layout = self._rows(X, fitting=False)
        if given not in (None, self._shape):
            theirs, known = ((*shape[1:], shape[0]) for shape in (given, self._shape))
            raise NearfarError(
                f"images of height, width, channels {theirs}: the model was trained on {known}"
            )
        warn_about_scale(rows, self._pixel_range, stacklevel=4)
        return images_from_rows(rows, self._shape, self._pixel_range), layout

    def _rows(
        self, X: npt.ArrayLike, *, fitting: bool
    ) -> tuple[npt.NDArray[Any], Shape | None, Layout]:
        """Return images flattened to rows, their shape (c, h, w) if known, and their layout."""
        shape = None
        layout: Layout = "flat"
        unknown = not hasattr(X, "ndim")  # neither an array nor a data frame, or an iterator
        several = isinstance(X, list | tuple | Tensor | Image | np.ma.MaskedArray)
        if unknown or several or getattr(X, "ndim", 2) == 1:
            X = as_array(X, "X")
        if getattr(X, "ndim", 2) in (3, 4):
            array = as_array(X, "X")
            layout, shape = layout_of(array)
            X = array.reshape(len(array), math.prod(shape))
        if isinstance(X, np.ndarray) and X.dtype.kind in "mMV":  # sklearn would convert to seconds
            raise NearfarError(f"X is an array of {X.dtype}: expected numbers")
        rows = validate_data(
            self, X, reset=fitting, dtype="numeric", ensure_min_samples=2 if fitting else 1
        )
        if rows.dtype != np.uint8:
            with np.errstate(over="ignore"):
                rows = rows.astype(np.float32, copy=False)
                if not np.isfinite(rows.max() - rows.min()):
                    raise NearfarError(
                        "X holds values outside the range of float32: expected smaller ones"
                    )
        return rows, shape, layout


def _count(n_neighbors: Any, maximum: int) -> int:
    """Check a number of neighbors and return it. None is replaced by the default."""
    if n_neighbors is None:
        return min(DEFAULT_NEIGHBORS, maximum)
    whole = isinstance(n_neighbors, Integral) and not isinstance(n_neighbors, bool)
    if not whole or not 1 <= int(n_neighbors) <= maximum:
        raise NearfarError(
            f"n_neighbors={n_neighbors!r}: expected a whole number from 1 to {maximum}, since "
            "there are no more training images to find"
        )
    return int(n_neighbors)
