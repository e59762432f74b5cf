"""The scikit-learn face of nearfar: ``NRE().fit(images).transform(images)``."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from nearfar import runs
from nearfar.data import Images, Shape
from nearfar.data.layouts import (
    Layout,
    images_from_rows,
    images_to_array,
    layout_of,
    pixel_range_of,
    shape_of_rows,
    warn_about_scale,
)
from nearfar.errors import NearfarError
from nearfar.models import apply_to_all, resolve_device
from nearfar.neighbors import ExactFinder
from nearfar.neighbors.similarity import fit_similarity
from nearfar.progress import Track, silent
from nearfar.training.config import TrainConfig
from nearfar.training.train import train


class NRE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Neighborhood-relational encoding of images, learned without labels.

    An autoencoder is trained to reconstruct the images; then its reconstructions are drawn to the
    image and its nearest neighbors in the data, and pushed from its farthest ones, all in the code
    space of the first autoencoder [1]_.

    Images are arrays n×h×w, n×h×w×c (c = 1 or 3), or flattened to n×features; or any
    `nearfar.data.Images`. Values are uint8, or floats on any scale: floats within 0…1 are taken
    as black…white, others by their smallest and largest value in `fit`.

    Parameters
    ----------
    image_shape : tuple of int, optional
        (h, w) or (h, w, c) of flattened images. If not given, rows whose length is a square of at
        least 8 are square gray images; any others are plain features, for a network of fully
        connected layers.
    encoder, decoder : nn.Module, optional
        A network of your own, from float[b, c, h, w] in 0…1 to embeddings float[b, d] and back.
        What a decoder gives beyond 0…1 is clipped in reconstructions, not in training.
    verbose : bool
        Show progress bars.
    pretext, noise, noise_level, holes, network, backbone, initialization, relation, reference, \
    reference_weights, weights, end_weights, weight_schedule, neighbors, reduction, similarity, \
    finder, clusters, search, relative_to, far_share, views, unchanged_share, temperature, \
    neighbor_share, refresh, pixel_weight, pretrain_epochs, epochs, batch_size, accumulate, \
    pretrain_lr, lr, weight_decay, lr_schedule, embedding_size, widths, seed, device, precision
        See `nearfar.training.config.TrainConfig`.

    Attributes
    ----------
    autoencoder_ : Autoencoder
        The trained network.
    pretrained_ : Autoencoder
        The plain autoencoder it started from.
    codes_ : float32[n, d]
        Embeddings of the training images.
    log_ : list of dict
        What was recorded of each epoch.
    pixel_range_ : tuple of float
        The values that mean black and white.
    n_features_in_ : int
        h·w·c.

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
        embedding_size: int = 128,
        pretext: str = "plain",
        noise: str = "masking",
        noise_level: float = 0.25,
        holes: str = "center",
        network: str = "plain",
        backbone: str | None = None,
        initialization: str = "random",
        relation: str = "reconstructions",
        reference: str | None = None,
        reference_weights: str | None = None,
        weights: tuple[float, float, float] = (0.5, 0.2, 0.3),
        end_weights: tuple[float, float, float] | None = None,
        weight_schedule: str = "constant",
        neighbors: int = 1,
        reduction: str = "sum",
        similarity: str = "cosine",
        finder: str = "clustered",
        clusters: int | None = None,
        search: str = "epoch",
        relative_to: str = "reconstruction",
        far_share: float = 0.1,
        views: str = "auto",
        unchanged_share: float = 0.0,
        temperature: float = 0.2,
        neighbor_share: float = 0.5,
        refresh: int = 0,
        pixel_weight: float = 0.0,
        pretrain_epochs: int = 20,
        epochs: int = 20,
        batch_size: int = 256,
        accumulate: int = 1,
        pretrain_lr: float = 1e-3,
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        lr_schedule: str = "constant",
        widths: tuple[int, ...] | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: str = "32",
        image_shape: tuple[int, ...] | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        verbose: bool = False,
    ) -> None:
        self.embedding_size = embedding_size
        self.pretext = pretext
        self.noise = noise
        self.noise_level = noise_level
        self.holes = holes
        self.network = network
        self.backbone = backbone
        self.initialization = initialization
        self.relation = relation
        self.reference = reference
        self.reference_weights = reference_weights
        self.weights = weights
        self.end_weights = end_weights
        self.weight_schedule = weight_schedule
        self.neighbors = neighbors
        self.reduction = reduction
        self.similarity = similarity
        self.finder = finder
        self.clusters = clusters
        self.search = search
        self.relative_to = relative_to
        self.far_share = far_share
        self.views = views
        self.unchanged_share = unchanged_share
        self.temperature = temperature
        self.neighbor_share = neighbor_share
        self.refresh = refresh
        self.pixel_weight = pixel_weight
        self.pretrain_epochs = pretrain_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.pretrain_lr = pretrain_lr
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.widths = widths
        self.seed = seed
        self.device = device
        self.precision = precision
        self.image_shape = image_shape
        self.encoder = encoder
        self.decoder = decoder
        self.verbose = verbose

    def fit(self, X: npt.ArrayLike | Images, y: object = None) -> Self:
        """Learn from images; `y` is not looked at.

        Raises
        ------
        NearfarError
            If the parameters do not fit together, or to the images.
        """
        if isinstance(X, Images):
            images, shape, pixel_range = X, X.shape, (0.0, 1.0)
            layout: Layout = "gray" if shape[0] == 1 else "color"
        else:
            rows, given, layout = self._rows(X, fitting=True)
            shape = given or shape_of_rows(rows.shape[1], self.image_shape)
            pixel_range = pixel_range_of(rows)
            images = images_from_rows(rows, shape, pixel_range)
        trained = train(
            images,
            self._config(),
            encoder=self.encoder,
            decoder=self.decoder,
            origin={"layout": layout, "image_shape": self.image_shape},
            pixel_range=pixel_range,
            track=self._track(),
        )
        self.n_features_in_ = math.prod(shape)
        self._learn_shape(shape, pixel_range, layout)
        self.run_config_ = trained.config
        self.autoencoder_, self.pretrained_ = trained.autoencoder, trained.pretrained
        self.codes_: npt.NDArray[np.float32] = trained.embeddings.numpy()
        self.log_ = trained.log
        return self

    def transform(self, X: npt.ArrayLike | Images) -> npt.NDArray[np.float32]:
        """Encode images to embeddings, float32[n, d]."""
        check_is_fitted(self)
        images, _ = self._read(X)
        return self._apply(self.autoencoder_.encoder, images).numpy()

    def inverse_transform(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Decode embeddings, float[n, d], to images in the layout and on the scale of `fit`."""
        check_is_fitted(self)
        embeddings = np.asarray(X, dtype=np.float32)
        if embeddings.ndim != 2 or embeddings.shape[1] != self._n_features_out:
            raise NearfarError(
                f"embeddings of shape {embeddings.shape}: expected (n, {self._n_features_out})"
            )
        device = resolve_device(self.device)
        decoder = self.autoencoder_.decoder.to(device)
        with torch.no_grad():
            parts = [
                decoder(part.to(device)).cpu() for part in torch.from_numpy(embeddings).split(512)
            ]
        return images_to_array(torch.cat(parts), self.layout_, self.pixel_range_)

    def reconstruct(self, X: npt.ArrayLike | Images) -> npt.NDArray[Any]:
        """Encode and decode images; the result has the layout of `X` and the scale of `fit`."""
        check_is_fitted(self)
        images, layout = self._read(X)
        decoded = self._apply(lambda batch: self.autoencoder_(batch).reconstruction, images)
        return images_to_array(decoded, layout, self.pixel_range_)

    def kneighbors(
        self,
        X: npt.ArrayLike | Images | None = None,
        n_neighbors: int = 5,
        return_distance: bool = True,
        *,
        far: bool = False,
    ) -> npt.NDArray[np.int64] | tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Find the training images whose embeddings are most, or least, similar.

        Parameters
        ----------
        X : array or Images, optional
            The training images themselves if not given, each without itself.
        n_neighbors : int
            How many, T.
        return_distance : bool
            Whether to return distances, 𝔻 = 1 − 𝕊, beside the rows.
        far : bool
            Find the least similar ones.

        Returns
        -------
        distances : float32[n, T]
            Only with `return_distance`.
        rows : int64[n, T]
            Rows of the training images, most similar first (least similar first if `far`).
        """
        check_is_fitted(self)
        bank = torch.from_numpy(np.array(self.codes_))
        queries = bank if X is None else torch.from_numpy(self.transform(X))
        own = torch.arange(len(bank)) if X is None else torch.full((len(queries),), -1)
        similarity = fit_similarity(self._config().similarity, bank)
        finder = ExactFinder(n_neighbors).fit(bank, similarity)
        found = finder.search(queries, own)
        rows = found.far if far else found.near
        if not return_distance:
            return rows.numpy()
        distances = torch.stack([1 - similarity(queries, bank[column]) for column in rows.T], dim=1)
        return distances.clamp_min(0).numpy(), rows.numpy()

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a run folder, as ``nearfar train`` does.

        Raises
        ------
        NearfarError
            If something is there and `overwrite` is false.
        """
        check_is_fitted(self)
        path = Path(folder)
        runs.claim_folder(path, overwrite=overwrite)
        runs.write_log(path, self.log_)
        runs.write_run(path, self.run_config_, self.autoencoder_, self.pretrained_, self.codes_)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> Self:
        """Read a run folder.

        Parameters
        ----------
        encoder, decoder : nn.Module, optional
            The network, if the run was trained with one of the caller's own.

        Raises
        ------
        NearfarError
            If the run is missing, unfinished, damaged, of a newer format or of another network.
        """
        run = runs.read_run(Path(folder), encoder, decoder)
        with runs.reading(Path(folder), runs.CONFIG):
            known = TrainConfig.from_dict(run.config.train)
        names = {field.name for field in fields(known)} & set(cls().get_params())
        choices = {name: getattr(known, name) for name in names}
        try:
            resolve_device(known.device)
        except NearfarError:  # that of another machine
            choices["device"] = "auto"
        model = cls(
            **choices,
            image_shape=run.config.data.image_shape,
            encoder=encoder,
            decoder=decoder,
        )
        shape = run.config.data.shape
        layout = run.config.data.layout or ("gray" if shape[0] == 1 else "color")
        model._learn_shape(shape, run.config.pixel_range, layout)
        model.n_features_in_ = math.prod(shape)
        model.run_config_ = run.config
        model.autoencoder_, model.pretrained_ = run.autoencoder, run.pretrained
        model.codes_, model.log_ = run.embeddings, runs.read_log(Path(folder))
        return model

    @property
    def _n_features_out(self) -> int:
        return int(self.codes_.shape[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.three_d_array = True
        return tags

    def _config(self) -> TrainConfig:
        given = self.get_params(deep=False)
        return TrainConfig(
            **{f.name: given[f.name] for f in fields(TrainConfig) if f.name in given}
        )

    def _track(self) -> Track:
        if not self.verbose:
            return silent
        from rich.console import Console

        from nearfar.progress import Bars

        return Bars(Console(stderr=True))

    def _apply(self, function: Any, images: Images) -> Tensor:
        device = resolve_device(self.device)
        self.autoencoder_.to(device).eval()
        return apply_to_all(function, images, device=device, track=self._track())

    def _read(self, X: npt.ArrayLike | Images) -> tuple[Images, Layout]:
        """Images to encode, checked against those of `fit`."""
        if isinstance(X, Images):
            if X.shape != self.shape_:
                raise NearfarError(
                    f"{X.name!r} has images of shape {X.shape}, the model was trained on "
                    f"{self.shape_}"
                )
            return X, "gray" if X.shape[0] == 1 else "color"
        rows, given, layout = self._rows(X, fitting=False)
        if given not in (None, self.shape_):
            theirs, known = ((*shape[1:], shape[0]) for shape in (given, self.shape_))
            raise NearfarError(
                f"images of height, width, channels {theirs}: the model was trained on {known}"
            )
        warn_about_scale(rows, self.pixel_range_, stacklevel=3)
        return images_from_rows(rows, self.shape_, self.pixel_range_), layout

    def _rows(
        self, X: npt.ArrayLike, *, fitting: bool
    ) -> tuple[npt.NDArray[Any], Shape | None, Layout]:
        """Flatten images to rows: the rows, (c, h, w) where the array tells, and its layout."""
        shape = None
        layout: Layout = "flat"
        if isinstance(X, list | tuple):
            X = np.asarray(X)
        if getattr(X, "ndim", 2) in (3, 4):
            array = np.asarray(X)
            layout, shape = layout_of(array)
            X = array.reshape(len(array), math.prod(shape))
        rows = validate_data(
            self, X, reset=fitting, dtype="numeric", ensure_min_samples=2 if fitting else 1
        )
        if rows.dtype != np.uint8:
            rows = rows.astype(np.float32, copy=False)
        return rows, shape, layout

    def _learn_shape(self, shape: Shape, pixel_range: tuple[float, float], layout: Layout) -> None:
        self.shape_, self.pixel_range_, self.layout_ = shape, pixel_range, layout
