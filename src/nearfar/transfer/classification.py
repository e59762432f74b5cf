"""Which classes an image shows, by three protocols: how much of the network is trained."""

from __future__ import annotations

import copy
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from nearfar.data import Shape, to_unit
from nearfar.models import apply_to_all
from nearfar.models.backbones import Backbone, check_backbone
from nearfar.models.layers import check_batchnorm
from nearfar.progress import Track, silent
from nearfar.transfer.labeled import Labeled
from nearfar.transfer.metrics import classification_ap
from nearfar.transfer.schedule import Schedule, fit

Protocol = Literal["linear", "fc", "all"]
#: By what is trained: a linear layer on the embeddings; the fully connected layers; everything.
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

SCHEDULE = Schedule(steps=3000, batch_size=64)

#: Inverse strength of the linear classifier's regularization, on standardized embeddings.
LINEAR_C = 0.01
LINEAR_ITERATIONS = 1000
DROPOUT = 0.5
#: An image is shifted by up to so much of its side.
SHIFT = 1 / 8


def classify(
    backbone: Backbone,
    train: Labeled,
    test: Labeled,
    protocol: Protocol,
    schedule: Schedule,
    *,
    device: torch.device,
    track: Track = silent,
) -> npt.NDArray[np.float32]:
    """Learn from some images, and score the classes of others.

    Parameters
    ----------
    backbone : Backbone
        A copy of it is trained.
    protocol : {"linear", "fc", "all"}
        Train a linear layer on the embeddings (FC8), the head too (FC6–8), or everything.
    schedule : Schedule
        For all but the linear layer alone, which is fitted to the end, without random views.

    Returns
    -------
    float32[n, k]
        The higher, the surer.

    Raises
    ------
    NearfarError
        See `check_images`.
    """
    check_images(backbone, train.images.shape, protocol, schedule)
    backbone = copy.deepcopy(backbone).to(device).eval()
    if protocol == "linear":
        return _fit_linear(backbone, train, test, device, track)
    backbone.features.requires_grad_(protocol == "all")
    network = _Classifier(backbone, len(train.classes), frozen=protocol == "fc").to(device)
    seen = torch.from_numpy(train.seen)

    def loss(rows: list[int]) -> Tensor:
        views = random_views(to_unit(train.images.batch(rows).to(device)))
        return _loss(network(views), seen[rows].to(device), train.single)

    fit(network, loss, len(train.images), schedule, track)
    found = apply_to_all(
        lambda images: network(images) + network(images.flip(-1)), test.images, device=device
    )
    return found.numpy()


def check_images(backbone: Backbone, shape: Shape, protocol: Protocol, schedule: Schedule) -> None:
    """Refuse images of a shape that a backbone cannot learn from by a schedule.

    Raises
    ------
    NearfarError
        If they are too small, or too small to be seen alone.
    """
    check_backbone(backbone.name, shape)
    if protocol == "all" and schedule.batch_size == 1:
        check_batchnorm(backbone, shape)


def judge(scores: npt.NDArray[np.float32], test: Labeled) -> dict[str, float]:
    """Return shares, 0…1: the accuracy, or of several classes an image their mean AP."""
    if test.single:
        return {"accuracy": float((scores.argmax(1) == test.seen.argmax(1)).mean())}
    return {
        "mAP, 11 points": float(np.nanmean(classification_ap(scores, test.seen, "11"))),
        "mAP, all points": float(np.nanmean(classification_ap(scores, test.seen, "all"))),
    }


class _Classifier(nn.Module):
    """A backbone with a linear layer (FC8) on its embeddings."""

    def __init__(self, backbone: Backbone, classes: int, *, frozen: bool) -> None:
        super().__init__()
        self.backbone, self.frozen = backbone, frozen
        self.drop = nn.Dropout(DROPOUT)
        self.fc8 = nn.Linear(backbone.embedding_size, classes)
        nn.init.zeros_(self.fc8.weight)
        nn.init.zeros_(self.fc8.bias)

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.backbone(images)
        logits: Tensor = self.fc8(self.drop(embeddings))
        return logits

    def train(self, mode: bool = True) -> _Classifier:
        """Keep the statistics of frozen layers as they are."""
        super().train(mode)
        self.backbone.features.train(mode and not self.frozen)
        return self


def random_views(images: Tensor) -> Tensor:
    """Mirror each of the images, float[b, c, h, w], or not, and shift it by up to an eighth."""
    height, width = images.shape[-2:]
    mirrored = torch.rand(len(images)) < 0.5
    far = (round(height * SHIFT), round(width * SHIFT))
    padded = pad(images, (far[1], far[1], far[0], far[0]), mode="reflect")
    tops = torch.randint(2 * far[0] + 1, (len(images),)).tolist()
    lefts = torch.randint(2 * far[1] + 1, (len(images),)).tolist()
    views = [
        image[:, top : top + height, left : left + width]
        for image, top, left in zip(padded, tops, lefts, strict=True)
    ]
    return torch.stack(
        [view.flip(-1) if flip else view for view, flip in zip(views, mirrored, strict=True)]
    )


def _loss(logits: Tensor, seen: Tensor, single: bool) -> Tensor:
    """Cross-entropy: of the one class, or of each class for itself where it is to be judged."""
    if single:
        return nn.functional.cross_entropy(logits, seen.argmax(1))
    each = binary_cross_entropy_with_logits(logits, (seen > 0).to(logits), reduction="none")
    judged = seen != 0
    return (each * judged).sum() / judged.sum().clamp_min(1)


def _fit_linear(
    backbone: Backbone, train: Labeled, test: Labeled, device: torch.device, track: Track
) -> npt.NDArray[np.float32]:
    """Logistic regression on standardized embeddings, multinomial or one per class."""
    embeddings, others = (
        apply_to_all(backbone, each.images, device=device, track=track).numpy()
        for each in (train, test)
    )

    def fitted(
        rows: npt.NDArray[np.bool_], labels: npt.NDArray[np.int8]
    ) -> npt.NDArray[np.float32]:
        regression = LogisticRegression(C=LINEAR_C, max_iter=LINEAR_ITERATIONS)
        model = make_pipeline(StandardScaler(), regression).fit(embeddings[rows], labels[rows])
        return np.asarray(model.decision_function(others), np.float32)

    labels = train.seen.argmax(1)
    present = np.unique(labels)
    if train.single and len(present) > 1:
        scores = np.full((len(others), len(train.classes)), -np.inf, np.float32)
        margins = fitted(np.ones(len(embeddings), bool), labels)
        scores[:, present] = margins if margins.ndim == 2 else np.stack([-margins, margins], 1)
        return scores
    scores = np.zeros((len(others), len(train.classes)), np.float32)
    for column, truth in enumerate(train.seen.T):
        # A class that is always, or never, seen cannot be told from anything.
        if {-1, 1} <= set(truth.tolist()):
            scores[:, column] = fitted(truth != 0, truth)
    return scores
