"""Every choice of a training run, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from nearfar.config.weights import ScheduleName, WeightSchedule, check_weights
from nearfar.errors import NearfarError
from nearfar.fields import check_fields
from nearfar.training.rates import RateSchedule


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train: the autoencoder first, then the neighborhood relations on top of it.

    Parameters
    ----------
    pretext : {"plain", "denoising", "context", "split-brain"}
        What the autoencoder learns to do, before and during relational training: reconstruct;
        undo noise; fill holes; predict each half of the input from the other.
    noise : {"masking", "gaussian", "adversarial"}
        For denoising: values set to zero, Gaussian noise, or uniform noise and then the change that
        harms the reconstruction most.
    noise_level : float
        The share of values set to zero, the standard deviation of the Gaussian noise, or the
        largest uniform one and the change after it, which differ from image to image. On the scale
        where 0…1 is black…white; at least 0, less than 1.
    holes : {"center", "random"}
        For context: the middle of the image, or four blocks at random places; about a quarter of
        the area.
    network : {"plain", "normalized", "deep"}
        The encoder: strided convolutions to ReLU embeddings; twice as many, with batch
        normalization, to embeddings without a ReLU; or these with a hidden layer of 512 units
        before the embeddings.
    backbone : {"alexnet", "resnet18", "resnet50", "vit-small"}, optional
        A well-known encoder in its place; AlexNet with its mirror as the decoder, as in the paper's
        Table 2.
    initialization : {"random", "kmeans"}
        The weights that training begins with. For a convolutional backbone, the centers of typical
        patches, scaled so that each unit varies alike: without batch normalization, as in AlexNet,
        training learns faster from there.
    relation : {"reconstructions", "embeddings"}
        What is related to near and far samples: reconstructions, in the embeddings of the frozen
        reference, as in the paper; or the embeddings that are being trained, seen through random
        views (ours). Weights, reduction, similarity, finder, search, relative_to and bank belong to
        the first; views, unchanged_share, temperature and neighbor_share to the second.
    reference : {"alexnet", "resnet18", "resnet50", "vit-small"}, optional
        The frozen encoder whose embeddings reconstructions are related in, as others trained it, in
        place of that of the plain autoencoder.
    reference_weights : str, optional
        Its weights, a safetensors file with torchvision's names; torchvision downloads what it
        publishes if not given.
    weights : tuple of float
        OWN NEAR FAR, the weights of the objective: not negative, together 1 (λ₁, λ₂, λ₃ of Eq. 1).
    end_weights : tuple of float, optional
        Weights to reach at the last epoch, by `weight_schedule`.
    weight_schedule : {"constant", "linear", "cosine"}
        How the weights move from `weights` to `end_weights`.
    neighbors : int
        How many near and how many far samples each sample is related to (T of Eq. 5).
    reduction : {"sum", "mean"}
        How these samples are combined: sum as in Eq. 5, or mean.
    similarity : {"cosine", "centered-cosine", "gaussian"}
        How alike two embeddings are (Eq. 4 is the cosine).
    finder : {"clustered", "exact"}
        Search within k-means clusters, as the paper does for large data, or among all samples.
    clusters : int, optional
        K, for the clustered finder; the square root of the number of images if not given.
    search : {"epoch", "step"}
        Search at the start of each epoch, from where each reconstruction was last seen, or at
        every step.
    relative_to : {"reconstruction", "image"}
        Which end near and far samples are taken relative to: the reconstruction, as the paper asks,
        or the image itself, which needs no search at every step.
    far_share : float
        Share of the other clusters, those with the farthest centers, that far samples come from.
    views : {"auto", "shapes", "photos", "none"}
        How images are seen: turned, scaled, shifted and bent; cropped, mirrored and in other light
        and color; or as they are. "auto" takes photos for color images and shapes for gray ones.
    unchanged_share : float
        The share of the images that are decoded from themselves, as all are after training, rather
        than from a view.
    temperature : float
        The smaller, the more the most similar far samples matter.
    neighbor_share : float
        The share of images that are related to a near sample instead of to themselves, once
        neighbors have been searched for the first time: see refresh.
    bank : {"memory", "disk"}
        Where the reference embeddings of all images are kept.
    refresh : int
        Every how many epochs the encoder as trained so far becomes the new reference; 0 for never.
        For relations of embeddings, every how many epochs neighbors and far clusters are searched.
        Until the first time, which fewer epochs or as many never reach, there are none.
    pixel_weight : float
        Weight of the squared pixel error added to the objective. Ours; the paper has none.
    weight_decay : float
        Of AdamW; with 0 it is Adam.
    lr_schedule : {"constant", "one-cycle"}
        Whether the learning rates stay, or rise to their value in the first fifth of their phase
        and fall to zero by a cosine.
    pretrain_epochs : int
        Epochs of plain autoencoder training before.
    epochs : int
        Epochs of relational training.
    batch_size : int
        Images a step, over all processes together.
    accumulate : int
        Parts in which a process sees its images of a step, one after the other, where they do not
        fit in memory at once. Batch normalization, and far samples of embeddings, see a part, which
        for relations of embeddings has at least two images.
    pretrain_lr : float
        Adam's learning rate for the autoencoder.
    lr : float
        Adam's learning rate for the relational training (the paper's 0.0001).
    embedding_size : int
        Length of an embedding.
    widths : tuple of int, optional
        Channels of each layer of the encoder; doubled from 16 for each halving of the image if not
        given. With a backbone: the units of AlexNet's FC6, or the channels of another's decoder.
    seed : int
        Decides the initial weights, the order of the images and every random draw.
    device : str
        "auto", "cpu", "cuda" or "mps".
    precision : {"32", "bf16"}
        Arithmetic of the networks: single, or bfloat16 mixed precision.
    """

    pretext: Literal["plain", "denoising", "context", "split-brain"] = "plain"
    noise: Literal["masking", "gaussian", "adversarial"] = "masking"
    noise_level: float = 0.25
    holes: Literal["center", "random"] = "center"
    network: Literal["plain", "normalized", "deep"] = "plain"
    backbone: Literal["alexnet", "resnet18", "resnet50", "vit-small"] | None = None
    initialization: Literal["random", "kmeans"] = "random"
    relation: Literal["reconstructions", "embeddings"] = "reconstructions"
    reference: Literal["alexnet", "resnet18", "resnet50", "vit-small"] | None = None
    reference_weights: str | None = None
    weights: tuple[float, float, float] = (0.5, 0.2, 0.3)
    end_weights: tuple[float, float, float] | None = None
    weight_schedule: ScheduleName = "constant"
    neighbors: int = 1
    reduction: Literal["sum", "mean"] = "sum"
    similarity: Literal["cosine", "centered-cosine", "gaussian"] = "cosine"
    finder: Literal["clustered", "exact"] = "clustered"
    clusters: int | None = None
    search: Literal["epoch", "step"] = "epoch"
    relative_to: Literal["reconstruction", "image"] = "reconstruction"
    far_share: float = 0.1
    views: Literal["auto", "shapes", "photos", "none"] = "auto"
    unchanged_share: float = 0.0
    temperature: float = 0.2
    neighbor_share: float = 0.5
    bank: Literal["memory", "disk"] = "memory"
    refresh: int = 0
    pixel_weight: float = 0.0
    pretrain_epochs: int = 20
    epochs: int = 20
    batch_size: int = 256
    accumulate: int = 1
    pretrain_lr: float = 1e-3
    lr: float = 1e-4
    weight_decay: float = 0.0
    lr_schedule: RateSchedule = "constant"
    embedding_size: int = 128
    widths: tuple[int, ...] | None = None
    seed: int = 0
    device: str = "auto"
    precision: Literal["32", "bf16"] = "32"

    def __post_init__(self) -> None:
        check_fields(self)
        self.schedule()
        if self.seed >= 2**32:
            raise NearfarError(f"seed={self.seed}: expected less than 2³²")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise NearfarError(f"{name}={value}: expected at least {least}")
        if not 0 <= self.noise_level < 1:
            raise NearfarError(
                f"noise_level={self.noise_level}: expected at least 0 and less than 1"
            )
        for name in ("lr", "pretrain_lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise NearfarError(f"{name}={getattr(self, name)}: expected a positive number")
        for name in ("far_share", "temperature"):
            if not 0 < getattr(self, name) <= 1:
                raise NearfarError(f"{name}={getattr(self, name)}: expected more than 0, at most 1")
        for name in ("neighbor_share", "unchanged_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise NearfarError(f"{name}={getattr(self, name)}: expected a share, 0…1")
        if not 0 <= self.weight_decay < float("inf"):
            raise NearfarError(f"weight_decay={self.weight_decay}: expected 0 or more")
        self._check_foreign()
        self._check_backbone()
        if self.pretrain_epochs + self.epochs == 0:
            raise NearfarError("pretrain_epochs=0 and epochs=0: nothing to train")
        if self.relative_to == "image" and self.search == "step":
            raise NearfarError(
                "search='step' with relative_to='image', which stays as it is: expected "
                "search='epoch'"
            )
        if self.reference is not None and self.refresh:
            raise NearfarError(
                f"refresh={self.refresh} with reference={self.reference!r}, which stays as it is: "
                "expected refresh=0"
            )
        if self.reference_weights is not None and self.reference is None:
            raise NearfarError(
                f"reference_weights={self.reference_weights!r}: expected a reference whose they are"
            )
        if self.end_weights is not None and self.weight_schedule == "constant":
            raise NearfarError("end_weights are given: expected weight_schedule linear or cosine")

    def _check_foreign(self) -> None:
        """Refuse choices that only another relation or pretext knows."""
        for choice, right, names in _ONLY_FOR:
            for name in names:
                value = getattr(self, name)
                chosen = getattr(self, choice)
                if chosen != right and value != getattr(type(self), name):
                    raise NearfarError(
                        f"{name}={value} with {choice}={chosen!r}: expected {choice}={right!r}, "
                        f"or no {name}"
                    )

    def _check_backbone(self) -> None:
        """Refuse choices that make another network."""
        for name, value, only in (
            ("pretext", self.pretext, "another pretext"),
            ("network", self.network, "network='plain'"),
        ):
            if self.backbone is not None and value in ("split-brain", "normalized", "deep"):
                raise NearfarError(
                    f"{name}={value!r} with backbone={self.backbone!r}: expected {only}, or no "
                    "backbone"
                )
        if self.initialization == "kmeans" and self.backbone in (None, "vit-small"):
            raise NearfarError(
                f"initialization='kmeans' with backbone={self.backbone!r}: expected a "
                "convolutional backbone, or initialization='random'"
            )

    def schedule(self) -> WeightSchedule:
        """Return the weights as they move over the relational epochs."""
        start = check_weights(self.weights)
        end = start if self.end_weights is None else check_weights(self.end_weights)
        return WeightSchedule(start, end, self.weight_schedule)

    def pretraining(self) -> TrainConfig:
        """Return the first phase alone: what only the second looks at has its default."""
        defaults = {name: getattr(type(self), name) for name in _SECOND_PHASE}
        return replace(self, **{**defaults, "epochs": 0})

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> TrainConfig:
        """Read what `dataclasses.asdict` gave and JSON kept.

        Raises
        ------
        NearfarError
            If something else is given.
        """
        try:
            return cls(**saved)
        except TypeError as error:
            raise NearfarError(f"not the choices of a training ({error})") from error


#: Choices that only one of the relations, or of the pretexts, knows.
_ONLY_FOR: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("relation", "reconstructions", ("weights", "end_weights", "weight_schedule", "reduction")),
    ("relation", "reconstructions", ("similarity", "finder", "search", "relative_to", "bank")),
    ("relation", "reconstructions", ("reference", "reference_weights")),
    ("relation", "embeddings", ("views", "unchanged_share", "temperature", "neighbor_share")),
    ("pretext", "denoising", ("noise", "noise_level")),
    ("pretext", "context", ("holes",)),
)

#: Choices that the first phase does not look at.
_SECOND_PHASE = (
    *(name for choice, _, names in _ONLY_FOR if choice == "relation" for name in names),
    *("relation", "neighbors", "clusters", "far_share", "refresh", "pixel_weight", "lr"),
)

_LEAST = {
    "neighbors": 1,
    "clusters": 1,
    "refresh": 0,
    "pixel_weight": 0,
    "pretrain_epochs": 0,
    "epochs": 0,
    "batch_size": 1,
    "accumulate": 1,
    "embedding_size": 1,
    "seed": 0,
}
