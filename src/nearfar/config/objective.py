"""Training objectives: relational, as in the paper, and contrastive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from nearfar.config.loss_weights import ScheduleName, WeightSchedule, check_weights
from nearfar.config.network import check_backbone_name
from nearfar.errors import NearfarError
from nearfar.fields import check_fields, check_ranges

FinderName = Literal["clustered", "exact"]
SimilarityName = Literal["cosine", "centered-cosine", "gaussian"]
AugmentationName = Literal["auto", "shapes", "photos", "none"]


@dataclass(frozen=True, kw_only=True)
class NeighborSearch:
    """Settings of the search for near and far samples.

    Parameters
    ----------
    finder : {"clustered", "exact"} or callable
        "clustered": search within k-means clusters, as the paper does for large data sets. "exact":
        search among all samples. Or your own: a function that takes the number of neighbors and
        returns a `nearfar.neighbors.Finder`.
    clusters : int, optional
        Number K of k-means clusters. Default: the square root of the number of images.
    far_share : float
        Fraction of the other clusters, in (0, 1], from which far samples are drawn. The farthest
        clusters are used.
    similarity : {"cosine", "centered-cosine", "gaussian"} or callable
        Similarity of two embeddings. Eq. 4 uses the cosine. Or your own: a function that takes the
        embeddings of all images and returns a `nearfar.neighbors.Similarity`.
    search_every : {"epoch", "step"}
        "epoch": search at the start of each epoch, with the latest reconstruction of each image.
        "step": search at every step.
    relative_to : {"reconstruction", "image"}
        Whether samples are near to and far from the reconstruction, as in the paper, or the image
        itself.
    bank : {"memory", "disk"}
        Where the embeddings of all images are stored.

    Examples
    --------
    >>> NeighborSearch(finder="exact", similarity="gaussian").clusters is None
    True
    """

    finder: FinderName | Callable[..., Any] = "clustered"
    clusters: int | None = None
    far_share: float = 0.1
    similarity: SimilarityName | Callable[..., Any] = "cosine"
    search_every: Literal["epoch", "step"] = "epoch"
    relative_to: Literal["reconstruction", "image"] = "reconstruction"
    bank: Literal["memory", "disk"] = "memory"

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, clusters=">= 1", far_share="(0, 1]")
        if self.relative_to == "image" and self.search_every == "step":
            raise NearfarError(
                "search_every='step' with relative_to='image', which does not change within an "
                "epoch: expected search_every='epoch'"
            )


@dataclass(frozen=True, kw_only=True)
class RelationalObjective:
    """Neighborhood-relational encoding as in the paper (Eq. 5).

    In the embedding space of a frozen reference encoder, each reconstruction is pulled toward the
    original image and its near samples, and pushed away from its far samples.

    Parameters
    ----------
    weights : tuple of float
        Weights λ₁, λ₂, λ₃ of the image, near samples and far samples (Eq. 1). Weights are
        nonnegative and sum to 1.
    end_weights : tuple of float, optional
        Weights in the last epoch.
    weight_schedule : {"constant", "linear", "cosine"}
        How the weights change from the initial weights to `end_weights`. "constant": they do not
        change.
    neighbors : int
        Number T of near samples and of far samples per image (Eq. 5).
    reduction : {"sum", "mean"}
        How the terms of the T samples are combined. Eq. 5 uses the sum.
    pixel_weight : float
        Weight of the squared pixel error, which is added to the objective. The paper uses 0.
    reference : str or nn.Module, optional
        External reference encoder: "alexnet", "timm:NAME", or a module. Default: the encoder after
        plain autoencoder training.
    reference_weights : str, optional
        File with the weights of a named reference. See `Backbone`. Default: pretrained weights.
    refresh_reference_every : int
        Number of epochs after which the reference is replaced by the current encoder, or 0 for
        never.
    search : NeighborSearch
        Settings of the search for near and far samples.

    Examples
    --------
    >>> RelationalObjective(weights=(0.6, 0.4, 0.0), neighbors=5).name
    'NRE'
    """

    kind: ClassVar[str] = "relational"
    name: ClassVar[str] = "NRE"
    trains_decoder: ClassVar[bool] = True

    weights: tuple[float, float, float] = field(
        default=(0.5, 0.2, 0.3), metadata={"option": "loss_weights"}
    )
    end_weights: tuple[float, float, float] | None = None
    weight_schedule: ScheduleName = "constant"
    neighbors: int = 1
    reduction: Literal["sum", "mean"] = "sum"
    pixel_weight: float = 0.0
    reference: str | Callable[..., Any] | None = None
    reference_weights: str | None = None
    refresh_reference_every: int = 0
    search: NeighborSearch = NeighborSearch()

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, neighbors=">= 1", pixel_weight=">= 0", refresh_reference_every=">= 0")
        self.schedule()
        if self.end_weights is not None and self.weight_schedule == "constant":
            raise NearfarError("end_weights need weight_schedule: expected linear or cosine")
        if self.reference is not None and self.refresh_reference_every:
            raise NearfarError(
                f"refresh_reference_every={self.refresh_reference_every} with an external "
                "reference, which stays frozen: expected 0"
            )
        if isinstance(self.reference, str):
            check_backbone_name(self.reference, "reference")
        elif self.reference_weights is not None:
            raise NearfarError("`reference_weights` needs a named `reference`")

    def schedule(self) -> WeightSchedule:
        """Return the schedule that defines the weights at each step."""
        start = check_weights(self.weights)
        end = start if self.end_weights is None else check_weights(self.end_weights)
        return WeightSchedule(start, end, self.weight_schedule)

    @property
    def similarity(self) -> SimilarityName | Callable[..., Any]:
        """Similarity measure for embeddings."""
        return self.search.similarity

    def for_trial(self) -> RelationalObjective:
        """Return the objective, adapted to a trial run of two epochs on a few images."""
        search = replace(self.search, clusters=None, bank="memory")
        every = min(self.refresh_reference_every, 1)
        return replace(self, search=search, refresh_reference_every=every)


@dataclass(frozen=True, kw_only=True)
class ContrastiveObjective:
    """Contrastive training on augmented views, with positives and negatives from neighborhoods.

    The positive of an image is another view of the image or a view of one of its nearest neighbors.
    The negatives are the images in the batch that belong to far clusters.

    Parameters
    ----------
    augmentation : {"auto", "shapes", "photos", "none"} or callable
        "shapes": random rotation, scaling, shift and elastic distortion. "photos": crops, flips and
        color jitter. "auto": "photos" for photographs, in color or grayscale, and "shapes" for
        shapes on a plain background. Or your own: a function that takes and returns images
        (float[b, c, h, w]) with values in [0, 1].
    identity_prob : float
        Probability, in [0, 1], that the first view is the unchanged image. The decoder is thus also
        trained on unchanged images.
    temperature : float
        Temperature τ of the softmax over near and far samples, in (0, 1].
    neighbors : int
        Number of nearest neighbors from which positives are drawn.
    neighbor_prob : float
        Probability, in [0, 1], that the positive is a view of a neighbor instead of the image
        itself. Before the first neighbor search, it is always a view of the image itself.
    clusters : int, optional
        Number of k-means clusters. With None, it is the square root of the number of images.
    far_share : float
        Fraction of the other clusters, in (0, 1], that count as far. The farthest clusters are
        used.
    refresh_neighbors_every : int
        Number of epochs between searches for neighbors and clusters, or 0 for no search.
    pixel_weight : float
        Weight of the decoder's squared pixel error. With 0, no decoder is trained.
    distill_weight : float
        Weight of the cosine distance between the embeddings of the encoder and those of the
        pretrained encoder that training starts from, or 0 for none. The pretrained encoder is
        applied to the whole image at the size that it was pretrained on.

    Examples
    --------
    >>> ContrastiveObjective(temperature=0.1).neighbors
    5
    """

    kind: ClassVar[str] = "contrastive"
    name: ClassVar[str] = "nearfar"
    similarity: ClassVar[SimilarityName] = "cosine"

    augmentation: AugmentationName | Callable[..., Any] = "auto"
    identity_prob: float = 0.3
    temperature: float = 0.2
    neighbors: int = 5
    neighbor_prob: float = 0.5
    clusters: int | None = 64
    far_share: float = 0.8
    refresh_neighbors_every: int = 5
    pixel_weight: float = 60.0
    distill_weight: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self,
            identity_prob="[0, 1]",
            temperature="(0, 1]",
            neighbors=">= 1",
            neighbor_prob="[0, 1]",
            clusters=">= 1",
            far_share="(0, 1]",
            refresh_neighbors_every=">= 0",
            pixel_weight=">= 0",
            distill_weight=">= 0",
        )

    @property
    def trains_decoder(self) -> bool:
        """Whether the decoder is trained."""
        return self.pixel_weight > 0

    def for_trial(self) -> ContrastiveObjective:
        """Return the objective, adapted to a trial run of two epochs on a few images."""
        every = min(self.refresh_neighbors_every, 1)
        return replace(self, clusters=None, refresh_neighbors_every=every)


ObjectiveConfig = RelationalObjective | ContrastiveObjective
