"""Convolutional classifiers: the target of attacks and the attacker's substitute."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nearfar.data import Images, Shape, require_labels, to_unit
from nearfar.defense.defended import apply_in_batches, device_of
from nearfar.errors import NearfarError
from nearfar.models import resolve_device
from nearfar.progress import Track, silent
from nearfar.randomness import own_random_numbers
from nearfar.runs import to_cpu, write_tensors
from nearfar.training import fit_supervised

#: Epochs of a substitute, which has few images.
SUBSTITUTE_EPOCHS = 150

_BATCH_SIZE = 128
_LR = 1e-3
#: File type, as stored in the metadata.
_KIND = "nearfar-classifier"


def _target(shape: Shape, num_classes: int) -> nn.Sequential:
    """Return the target network: 3×3 convolutions, max-pooling, and two linear layers.

    The convolutions have 32 and 64 channels.
    """
    layers: list[nn.Module] = []
    for inner, outer in pairwise((shape[0], 32, 64)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    top = 64 * (shape[1] // 4) * (shape[2] // 4)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(top, 128), nn.ReLU(), nn.Linear(128, num_classes)
    )


def _substitute(shape: Shape, num_classes: int) -> nn.Sequential:
    """Return the substitute network: 5×5 convolutions with stride 2, and one linear layer.

    The convolutions have 16 and 32 channels.
    """
    top = 32 * -(-shape[1] // 4) * -(-shape[2] // 4)
    return nn.Sequential(
        nn.Conv2d(shape[0], 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(top, num_classes),
    )


_ARCHITECTURES: dict[str, Callable[[Shape, int], nn.Sequential]] = {
    "target": _target,
    "substitute": _substitute,
}


class Classifier(nn.Module):
    """Small convolutional classifier that `save_classifier` can save.

    Parameters
    ----------
    architecture : {"target", "substitute"}
        Architecture of the network. The substitute is smaller.
    shape : tuple of int
        Shape (channels, height, width) of the images. Height and width are at least 8.
    num_classes : int
        Number of classes k, at least 2.

    Raises
    ------
    NearfarError
        If the architecture is unknown, or `shape` or `num_classes` is too small.

    Examples
    --------
    >>> Classifier("target", (1, 28, 28), 10)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, architecture: str, shape: Shape, num_classes: int) -> None:
        super().__init__()
        if architecture not in _ARCHITECTURES:
            raise NearfarError(
                f"classifier {architecture!r} is unknown: expected {' or '.join(_ARCHITECTURES)}"
            )
        if min(shape[1:]) < 8 or num_classes < 2:
            raise NearfarError(
                f"a classifier of images {shape} into {num_classes} classes: expected sides of at "
                "least 8 pixels and at least 2 classes"
            )
        self.architecture, self.shape, self.num_classes = architecture, shape, num_classes
        self.layers = _ARCHITECTURES[architecture](shape, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (float[b, k]) of images (float[b, c, h, w]) with values in [0, 1]."""
        return self.layers(images)


def train_classifier(
    architecture: str,
    images: Images,
    *,
    epochs: int,
    seed: int = 0,
    labels: Tensor | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> Classifier:
    """Train a classifier with Adam and the cross-entropy loss.

    Parameters
    ----------
    architecture : {"target", "substitute"}
        Architecture of the network. See `Classifier`.
    images : Images
        Training images.
    epochs : int
        Passes over the images.
    seed : int
        Random seed for the initial weights and the image order.
    labels : int64[n], optional
        Class of each image, such as the class that another classifier predicts. Default: the labels
        of the images.
    num_classes : int, optional
        Number of classes. Default: the number of classes of the images or of `labels`, at least 2.
    device : {"auto", "cpu", "cuda", "mps"}
        Device for training.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Returns
    -------
    Classifier
        Classifier in evaluation mode, on the CPU.

    Raises
    ------
    NearfarError
        If there are no labels.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8), torch.arange(20).numpy() % 2)
    >>> train_classifier("substitute", images, epochs=1, device="cpu").num_classes
    2
    """
    numbers = torch.from_numpy(require_labels(images)) if labels is None else labels
    if num_classes is None:
        num_classes = max(len(images.classes or ()), int(numbers.max()) + 1, 2)
    target = resolve_device(device)
    with own_random_numbers(seed):
        classifier = Classifier(architecture, images.shape, num_classes).to(target)

        def loss(rows: Tensor) -> Tensor:
            batch = to_unit(images.batch(rows).to(target))
            return cross_entropy(classifier(batch), numbers[rows].to(target))

        batches_per_epoch = -(-len(images) // _BATCH_SIZE)
        fit_supervised(
            classifier,
            loss,
            _epochs_of_batches(len(images), epochs),
            optimizer=torch.optim.Adam(classifier.parameters(), lr=_LR),
            steps=epochs * batches_per_epoch,
            track=track,
            description="training the classifier",
        )
    return classifier.cpu()


def _epochs_of_batches(n: int, epochs: int) -> Iterator[Tensor]:
    """Yield the rows of each batch of all epochs. The last batch of an epoch may be smaller."""
    for _ in range(epochs):
        yield from torch.randperm(n).split(_BATCH_SIZE)


def save_classifier(path: str | os.PathLike[str], classifier: Classifier) -> None:
    """Write a classifier to a safetensors file, atomically.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "classifier.safetensors")
    ...     save_classifier(path, Classifier("substitute", (1, 8, 8), 10))
    ...     load_classifier(path).num_classes
    10
    """
    path = Path(path)
    metadata = {
        "kind": _KIND,
        "architecture": classifier.architecture,
        "shape": json.dumps(classifier.shape),
        "classes": str(classifier.num_classes),
    }
    write_tensors(path, to_cpu(classifier.state_dict()), metadata)


def load_classifier(path: str | os.PathLike[str]) -> Classifier:
    """Load a classifier written by `save_classifier`. No code in the file is run.

    Raises
    ------
    NearfarError
        If the file is missing or damaged, or is not a classifier.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "classifier.safetensors")
    ...     save_classifier(path, Classifier("target", (1, 8, 8), 10))
    ...     load_classifier(path).architecture
    'target'
    """
    path = Path(path)
    if not path.is_file():
        raise NearfarError(f"classifier {str(path)!r} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("kind") != _KIND:
            raise NearfarError(
                f"{str(path)!r} is not a nearfar classifier: expected a file by "
                "save_classifier, or module:function"
            )
        channels, height, width = map(int, json.loads(metadata["shape"]))
        shape = (channels, height, width)
        with torch.device("meta"):  # sizes in the metadata must not allocate memory
            classifier = Classifier(metadata["architecture"], shape, int(metadata["classes"]))
        classifier.load_state_dict(tensors, assign=True)
    except NearfarError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise NearfarError(f"classifier {str(path)!r} is damaged: {reason}") from error
    return classifier.eval()


def predict_classes(classifier: nn.Module, images: Tensor) -> Tensor:
    """Return the predicted class of each image (int64[n], on the CPU).

    Parameters
    ----------
    classifier : nn.Module
        Classifier that returns logits.
    images : float[n, c, h, w]
        Images, with values in [0, 1].

    Examples
    --------
    >>> predict_classes(nn.Flatten(), torch.eye(3).view(3, 3, 1, 1))
    tensor([0, 1, 2])
    """
    return apply_in_batches(
        lambda batch: classifier(batch).argmax(1), images, device_of(classifier)
    )


def load_pixels(images: Images) -> Tensor:
    """Return all images as one tensor (float32[n, c, h, w]) with values in [0, 1].

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> load_pixels(ArrayImages(torch.zeros(5, 1, 8, 8, dtype=torch.uint8))).dtype
    torch.float32
    """
    return to_unit(images.batch(range(len(images))))
