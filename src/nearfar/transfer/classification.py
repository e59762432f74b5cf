"""Image classification with a backbone. There are three protocols, which train different layers."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from nearfar.data import Images, Shape, conform_images, to_unit
from nearfar.models import (
    BackboneEncoder,
    apply_to_all,
    check_backbone,
    check_batchnorm,
    resolve_device,
)
from nearfar.progress import Track, silent
from nearfar.transfer.backbones import BackboneSpec
from nearfar.transfer.classification_data import ClassificationSet
from nearfar.transfer.finetuning import FinetuneConfig, finetune_network
from nearfar.transfer.metrics import classification_ap
from nearfar.transfer.storage import write_finetuned

Protocol = Literal["linear", "fc", "all"]
#: Trained layers: a linear layer on the embeddings, the fully connected layers, or all layers.
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

CLASSIFICATION_CONFIG = FinetuneConfig(steps=3000, batch_size=64)

#: Inverse regularization strength of the linear classifier, on standardized embeddings.
_LINEAR_C = 0.01
_LINEAR_ITERATIONS = 1000
_DROPOUT = 0.5
#: Logit of a class without training images; finite, since scores must be finite.
_NEVER = -1e30
#: Maximum shift of an image, as a fraction of its side.
_SHIFT = 1 / 8

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetunedClassifier:
    """Fine-tuned image classifier.

    Parameters
    ----------
    network : nn.Module
        Module that takes images and returns logits.
    backbone : BackboneSpec
        Architecture of the backbone.
    classes : tuple of str
        Names of the k classes.
    shape : tuple of int
        Channels, height and width of the images.
    single_label : bool
        Whether exactly one class is present in each image.
    protocol : {"linear", "fc", "all"}
        Training protocol, see `finetune_classifier`.

    Examples
    --------
    A classifier from a given network (`finetune_classifier` returns a trained one):

    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> network = ClassifierNetwork(spec.build(), 2, "all").eval()
    >>> classifier = FinetunedClassifier(
    ...     network=network, backbone=spec, classes=("a", "b"), shape=(3, 64, 64),
    ...     single_label=True, protocol="all",
    ... )
    >>> classifier.predict(np.zeros((5, 64, 64, 3), np.uint8)).shape
    (5, 2)
    """

    task: ClassVar[str] = "classification"

    network: ClassifierNetwork
    backbone: BackboneSpec
    classes: tuple[str, ...]
    shape: Shape
    single_label: bool
    protocol: Protocol

    def predict(self, images: Images | npt.ArrayLike, *, track: Track = silent) -> _Floats:
        """Return the probability of each class for each image (float32[n, k]).

        If each image has exactly one class, the probabilities sum to 1. Otherwise, each class has
        an independent probability.

        Parameters
        ----------
        images : Images or array
            Images to classify. `Images` must have the image shape of the classifier; arrays are
            resized to this shape.
        track : Track
            Progress display, see `nearfar.progress.Track`.

        Raises
        ------
        NearfarError
            If the image shape does not match the classifier.
        """
        images = conform_images(images, self.shape)
        logits = torch.from_numpy(self.scores(images, track=track)) / self._views
        return (logits.softmax(1) if self.single_label else logits.sigmoid()).numpy()

    def scores(self, images: Images, *, track: Track = silent) -> _Floats:
        """Return the logits of each image, summed over the image and its mirror image.

        The result is float32[n, k]. With the protocol "linear", mirror images are not used.
        """
        network = self.network
        device = next(network.parameters()).device

        def both(batch: Tensor) -> Tensor:
            return network(batch) + network(batch.flip(-1))

        return apply_to_all(
            both if self._views == 2 else network, images, device=device, track=track
        ).numpy()

    def evaluate(self, test: ClassificationSet, *, track: Track = silent) -> dict[str, float]:
        """Return the metrics on test images, see `classification_metrics`."""
        return classification_metrics(self.scores(test.images, track=track), test)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the weights (safetensors) and the configuration (JSON) to a folder.

        Use `load_finetuned` to read the classifier.
        """
        config = {
            "task": self.task,
            "backbone": vars(self.backbone),
            "classes": list(self.classes),
            "shape": list(self.shape),
            "single_label": self.single_label,
            "protocol": self.protocol,
        }
        write_finetuned(Path(folder), self.network, config)

    @classmethod
    def from_config(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> FinetunedClassifier:
        """Return the classifier with the given configuration and weights, as written by `save`."""
        backbone = BackboneSpec(**config["backbone"])
        protocol, classes = config["protocol"], tuple(config["classes"])
        channels, height, width = config["shape"]
        network = ClassifierNetwork(backbone.build(), len(classes), protocol)
        network.load_state_dict(tensors)
        return cls(
            network=network.eval(),
            backbone=backbone,
            classes=classes,
            shape=(channels, height, width),
            single_label=config["single_label"],
            protocol=protocol,
        )

    @property
    def _views(self) -> int:
        """Number of views over which the logits of an image are summed."""
        return 1 if self.protocol == "linear" else 2


def finetune_classifier(
    backbone: BackboneEncoder,
    train: ClassificationSet,
    protocol: Protocol = "all",
    config: FinetuneConfig = CLASSIFICATION_CONFIG,
    *,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> FinetunedClassifier:
    """Train a classifier on a backbone.

    Parameters
    ----------
    backbone : BackboneEncoder
        Backbone. A copy is trained; the backbone itself is not changed.
    train : ClassificationSet
        Training images.
    protocol : {"linear", "fc", "all"}
        Layers to train: a linear layer on the embeddings (FC8), all fully connected layers (FC6–8),
        or all layers. "linear" is logistic regression on standardized embeddings, trained to
        convergence without augmentation.
    config : FinetuneConfig
        Training options. Unused for "linear".
    device : str or torch.device
        Device for training.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    FinetunedClassifier
        Trained classifier.

    Raises
    ------
    NearfarError
        See `check_image_shape`.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> from nearfar.transfer import FinetuneConfig, split_labeled_images
    >>> images = ArrayImages(torch.rand(20, 3, 64, 64), np.arange(20) % 2)
    >>> train, test = split_labeled_images(images)
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> config = FinetuneConfig(steps=1, batch_size=4)
    >>> classifier = finetune_classifier(spec.build(), train, "fc", config, device="cpu")
    >>> classifier.predict(test.images).sum(1).round(3)
    array([1., 1., 1., 1.], dtype=float32)
    """
    check_image_shape(backbone, train.images.shape, protocol, config)
    target = resolve_device(device)
    spec = BackboneSpec.of(backbone)
    backbone = copy.deepcopy(backbone).to(target).eval()
    network = ClassifierNetwork(backbone, len(train.classes), protocol).to(target)
    if protocol == "linear":
        _fit_linear(network, train, target, track)
    else:
        backbone.features.requires_grad_(protocol == "all")
        presence = torch.from_numpy(train.presence)

        def loss(rows: Tensor) -> Tensor:
            images = augment(to_unit(train.images.batch(rows).to(target)))
            return _loss(network(images), presence[rows].to(target), train.single_label)

        finetune_network(network, loss, len(train.images), config, track)
    return FinetunedClassifier(
        network=network.eval(),
        backbone=spec,
        classes=tuple(train.classes),
        shape=train.images.shape,
        single_label=train.single_label,
        protocol=protocol,
    )


def check_image_shape(
    backbone: BackboneEncoder, shape: Shape, protocol: Protocol, config: FinetuneConfig
) -> None:
    """Check that a backbone can be trained on images of a given shape.

    Raises
    ------
    NearfarError
        If the images are too small for the backbone, or for batch normalization with a batch size
        of 1.

    Examples
    --------
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> check_image_shape(spec.build(), (3, 64, 64), "all", FinetuneConfig(batch_size=8))
    """
    check_backbone(backbone.name, shape)
    if protocol == "all" and config.batch_size == 1:
        check_batchnorm(backbone, shape)


def classification_metrics(scores: _Floats, test: ClassificationSet) -> dict[str, float]:
    """Return the metrics of a classifier by name, in [0, 1].

    If each image has exactly one class, the metric is "accuracy". Otherwise, the metrics are the
    mean average precisions "mAP, 11 points" and "mAP, all points", see `average_precision`.

    Parameters
    ----------
    scores : float32[n, k]
        Score of each class for each image. Higher scores mean that the class is more likely to be
        present.
    test : ClassificationSet
        Test images.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(np.zeros((2, 3, 64, 64), np.uint8))
    >>> presence = np.array([[1, -1], [-1, 1]], np.int8)
    >>> test = ClassificationSet(images, presence, ["cat", "dog"], single_label=True)
    >>> classification_metrics(np.array([[2.0, 1.0], [2.0, 1.0]], np.float32), test)
    {'accuracy': 0.5}
    """
    if test.single_label:
        return {"accuracy": float((scores.argmax(1) == test.labels).mean())}
    return {
        "mAP, 11 points": float(np.nanmean(classification_ap(scores, test.presence, "11"))),
        "mAP, all points": float(np.nanmean(classification_ap(scores, test.presence, "all"))),
    }


class Standardize(nn.Module):
    """Module that subtracts a mean from embeddings and divides them by a scale.

    Parameters
    ----------
    size : int
        Dimension d of the embeddings.

    Examples
    --------
    >>> Standardize(2)(torch.tensor([[1.0, 2.0]]))
    tensor([[1., 2.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return standardized embeddings (float[b, d])."""
        return (embeddings - self.mean) / self.scale


class ClassifierNetwork(nn.Module):
    """Backbone, followed by a linear layer (FC8) that takes the embeddings and returns logits.

    Parameters
    ----------
    backbone : BackboneEncoder
        Backbone. It is used directly, not copied.
    num_classes : int
        Number of classes k.
    protocol : {"linear", "fc", "all"}
        With "linear", embeddings are standardized. Only with "all" does training update the
        batch normalization statistics of `backbone.features`.

    Examples
    --------
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> ClassifierNetwork(spec.build(), 3, "all")(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 3])
    """

    def __init__(self, backbone: BackboneEncoder, num_classes: int, protocol: Protocol) -> None:
        super().__init__()
        size = backbone.embedding_size
        self.backbone, self.frozen = backbone, protocol != "all"
        self.standardize = Standardize(size) if protocol == "linear" else nn.Identity()
        self.drop = nn.Dropout(_DROPOUT)
        self.fc8 = nn.Linear(size, num_classes)
        nn.init.zeros_(self.fc8.weight)
        nn.init.zeros_(self.fc8.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (float[b, k]) of images.

        The images are float[b, 1 or 3, h, w], with values in [0, 1].
        """
        embeddings: Tensor = self.standardize(self.backbone(images))
        logits: Tensor = self.fc8(self.drop(embeddings))
        return logits

    def train(self, mode: bool = True) -> ClassifierNetwork:
        """Set training or evaluation mode. Frozen features stay in evaluation mode."""
        super().train(mode)
        self.backbone.features.train(mode and not self.frozen)
        return self


def augment(images: Tensor) -> Tensor:
    """Return augmented images (float[b, c, h, w]).

    Each image is mirrored with probability 0.5, and shifted at random by up to an eighth of its
    height and width.

    Examples
    --------
    >>> augment(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 3, 64, 64])
    """
    height, width = images.shape[-2:]
    mirror = torch.rand(len(images)) < 0.5
    down, right = (round(height * _SHIFT), round(width * _SHIFT))
    padded = pad(images, (right, right, down, down), mode="reflect")
    tops = torch.randint(2 * down + 1, (len(images),)).tolist()
    lefts = torch.randint(2 * right + 1, (len(images),)).tolist()
    crops = [
        image[:, top : top + height, left : left + width]
        for image, top, left in zip(padded, tops, lefts, strict=True)
    ]
    return torch.stack(
        [crop.flip(-1) if flip else crop for crop, flip in zip(crops, mirror, strict=True)]
    )


def _loss(logits: Tensor, presence: Tensor, single_label: bool) -> Tensor:
    """Return the loss of a batch.

    If each image has exactly one class, the loss is the cross-entropy. Otherwise, it is the mean
    binary cross-entropy over all classes.
    """
    if single_label:
        return nn.functional.cross_entropy(logits, presence.argmax(1))
    losses = binary_cross_entropy_with_logits(logits, (presence > 0).to(logits), reduction="none")
    valid = presence != 0
    return (losses * valid).sum() / valid.sum().clamp_min(1)


@torch.no_grad()
def _fit_linear(
    network: ClassifierNetwork, train: ClassificationSet, device: torch.device, track: Track
) -> None:
    """Fit the linear layer by logistic regression on standardized embeddings.

    If each image has exactly one class, the model is multinomial. Otherwise, there is a separate
    model for each class.
    """
    from sklearn.preprocessing import StandardScaler

    embeddings = apply_to_all(network.backbone, train.images, device=device, track=track).numpy()
    scaler = StandardScaler().fit(embeddings)
    weights, biases = (each.detach().cpu().double() for each in network.fc8.parameters())
    labels = train.labels
    present = np.unique(labels)
    if train.single_label and len(present) > 1:
        weight, bias = _regress(embeddings, labels, scaler)
        if len(weight) == 1:  # two classes
            weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias])
        biases[:] = _NEVER  # for classes without images
        weights[present], biases[present] = weight, bias
    else:
        for column, truth in enumerate(train.presence.T):
            # A class that is always or never present cannot be learned.
            if {-1, 1} <= set(truth.tolist()):
                rows = truth != 0
                weight, bias = _regress(embeddings[rows], truth[rows], scaler)
                weights[column], biases[column] = weight[0], bias[0]
    network.fc8.weight.copy_(weights)
    network.fc8.bias.copy_(biases)
    network.standardize.get_buffer("mean").copy_(torch.from_numpy(scaler.mean_))
    network.standardize.get_buffer("scale").copy_(torch.from_numpy(scaler.scale_))


def _regress(embeddings: _Floats, labels: npt.NDArray[Any], shared: Any) -> tuple[Tensor, Tensor]:
    """Return the weights (float64[k, d]) and biases (float64[k]) of a logistic regression.

    For the fit, `embeddings` are standardized by their own mean and variance. The result is then
    converted, so that it applies to embeddings that are standardized by `shared`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(embeddings)
    regression = LogisticRegression(C=_LINEAR_C, max_iter=_LINEAR_ITERATIONS)
    regression.fit(scaler.transform(embeddings), labels)
    coefficients = regression.coef_.astype(np.float64)
    bias = regression.intercept_ + coefficients @ ((shared.mean_ - scaler.mean_) / scaler.scale_)
    return torch.from_numpy(coefficients * shared.scale_ / scaler.scale_), torch.from_numpy(bias)
