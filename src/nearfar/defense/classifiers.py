"""The classifiers that are attacked: the target, and the substitute that stands for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nearfar.data import Images, Shape, require_labels, to_unit
from nearfar.defense.guard import device_of, in_batches
from nearfar.errors import NearfarError
from nearfar.models import resolve_device
from nearfar.progress import Track, silent
from nearfar.runs import to_write, write_tensors

BATCH_SIZE = 128
LR = 1e-3
#: Of the substitute, which has few images.
SUBSTITUTE_EPOCHS = 150
#: How classifiers' files begin their description.
KIND = "nearfar-classifier"


def _target(shape: Shape, classes: int) -> nn.Sequential:
    """3×3 convolutions of 32 and 64 channels with max-pooling, and two linear layers."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise((shape[0], 32, 64)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    top = 64 * (shape[1] // 4) * (shape[2] // 4)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(top, 128), nn.ReLU(), nn.Linear(128, classes)
    )


def _substitute(shape: Shape, classes: int) -> nn.Sequential:
    """5×5 convolutions of stride 2, of 16 and 32 channels, and one linear layer."""
    top = 32 * -(-shape[1] // 4) * -(-shape[2] // 4)
    return nn.Sequential(
        nn.Conv2d(shape[0], 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(top, classes),
    )


ARCHITECTURES: dict[str, Callable[[Shape, int], nn.Sequential]] = {
    "target": _target,
    "substitute": _substitute,
}


class Classifier(nn.Module):
    """One of our classifiers: what is needed to build it again is kept beside its weights.

    Parameters
    ----------
    architecture : {"target", "substitute"}
        Which; the substitute is another, smaller one.
    shape : tuple of int
        Channels, height, width of an image; sides of at least 8 pixels.
    classes : int
        k, at least 2.
    """

    def __init__(self, architecture: str, shape: Shape, classes: int) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise NearfarError(
                f"classifier {architecture!r} is unknown: expected {' or '.join(ARCHITECTURES)}"
            )
        if min(shape[1:]) < 8 or classes < 2:
            raise NearfarError(
                f"a classifier of images {shape} into {classes} classes: expected sides of at "
                "least 8 pixels and at least 2 classes"
            )
        self.architecture, self.shape, self.classes = architecture, shape, classes
        self.layers = ARCHITECTURES[architecture](shape, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits float[b, k] of images float[b, c, h, w], where 0…1 is black…white."""
        return self.layers(images)


def train_classifier(
    architecture: str,
    images: Images,
    *,
    epochs: int,
    seed: int = 0,
    labels: Tensor | None = None,
    classes: int | None = None,
    device: str = "auto",
    track: Track = silent,
) -> Classifier:
    """Train one of our classifiers by Adam on the cross-entropy.

    Parameters
    ----------
    images : Images
        What to learn from.
    epochs : int
        How often to go through them.
    seed : int
        Decides the initial weights and the order.
    labels : int64[n], optional
        Class numbers other than those of the images, such as what another classifier says.
    classes : int, optional
        k, if there are classes that neither the images nor the labels have.

    Raises
    ------
    NearfarError
        If there are no labels.
    """
    numbers = torch.from_numpy(require_labels(images)) if labels is None else labels
    if classes is None:
        classes = max(len(images.classes or ()), int(numbers.max()) + 1, 2)
    target = resolve_device(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = Classifier(architecture, images.shape, classes).to(target)
        adam = torch.optim.Adam(classifier.parameters(), lr=LR)
        for _ in track(range(epochs), "training the classifier", epochs):
            for rows in torch.randperm(len(images)).split(BATCH_SIZE):
                batch = to_unit(images.batch(rows).to(target))
                loss = cross_entropy(classifier(batch), numbers[rows].to(target))
                adam.zero_grad()
                loss.backward()
                adam.step()
    return classifier.cpu().eval()


def save_classifier(path: Path, classifier: Classifier) -> None:
    """Write one of our classifiers as safetensors, atomically."""
    description = {
        "kind": KIND,
        "architecture": classifier.architecture,
        "shape": json.dumps(classifier.shape),
        "classes": str(classifier.classes),
    }
    write_tensors(path, to_write(classifier.state_dict()), description)


def load_classifier(path: Path) -> Classifier:
    """Read what `save_classifier` wrote; nothing in the file is run.

    Raises
    ------
    NearfarError
        If it is missing, damaged, or something else.
    """
    if not path.is_file():
        raise NearfarError(f"classifier {str(path)!r} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about.get("kind") != KIND:
            raise NearfarError(
                f"{str(path)!r} is no classifier of ours: expected a file that nearfar wrote, or "
                "module:function"
            )
        channels, height, width = map(int, json.loads(about["shape"]))
        shape = (channels, height, width)
        with torch.device("meta"):  # sizes that a file only claims take no memory
            classifier = Classifier(about["architecture"], shape, int(about["classes"]))
        classifier.load_state_dict(tensors, assign=True)
    except NearfarError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise NearfarError(f"classifier {str(path)!r} is damaged: {reason}") from error
    return classifier.eval()


def classify(classifier: nn.Module, images: Tensor) -> Tensor:
    """Return the classes, int64[n] on the CPU, of images float[n, c, h, w]."""
    return in_batches(lambda some: classifier(some).argmax(1), images, device_of(classifier))


def pixels_of(images: Images) -> Tensor:
    """All images at once, float32[n, c, h, w], for attacks take arrays."""
    return to_unit(images.batch(range(len(images))))
