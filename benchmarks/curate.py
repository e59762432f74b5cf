"""Curation beside imagededup, cleanlab and k-center, on planted copies and wrong labels.

Needs `pip install imagededup cleanlab`.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from torchvision.transforms import Compose, Resize, ToTensor

from nearfar.curation import (
    Duplicates,
    find_duplicates,
    find_label_errors,
    group_duplicates,
    select,
    thumbnails,
)
from nearfar.data import FolderImages
from nearfar.encoders import NetworkEncoder, open_encoder
from nearfar.experiments.caltech101 import CLASSES, of_classes

DATA = Path(os.environ.get("NEARFAR_DATA", "../shared/data"))
IMAGES, ORIGINALS = 3000, 300
PRECISION = 0.99
LITE0 = "timm:tf_efficientnet_lite0"
SETS = ("imagenette", "flowers", "caltech-9")
SIZE = 96
NOISE = 0.05
SEEDS, LABEL_SEEDS = 5, 3

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def _cropped(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    width, height = (round(side * (1 - share)) for side in image.size)
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((x, y, x + width, y + height))


def _marked(image: Image.Image) -> Image.Image:
    image, (width, height) = image.copy(), image.size
    draw = ImageDraw.Draw(image, "RGBA")
    draw.rectangle((width * 0.05, height * 0.8, width * 0.5, height * 0.92), (255, 255, 255, 120))
    draw.text((width * 0.07, height * 0.82), "(c) photos", fill=(0, 0, 0, 200))
    return image


ALTERATIONS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "resized": lambda image, rng: image.resize((image.width * 2 // 3, image.height * 2 // 3)),
    "jpeg": lambda image, rng: image,
    "cropped 5 %": lambda image, rng: _cropped(image, 0.05, rng),
    "cropped 10 %": lambda image, rng: _cropped(image, 0.1, rng),
    "brighter": lambda image, rng: ImageEnhance.Brightness(image).enhance(1.3),
    "padded": lambda image, rng: ImageOps.expand(image, (image.width // 12, image.height // 12)),
    "rotated": lambda image, rng: image.rotate(2, resample=Image.Resampling.BICUBIC),
    "blurred": lambda image, rng: image.filter(ImageFilter.GaussianBlur(1.5)),
    "gray": lambda image, rng: image.convert("L"),
    "marked": lambda image, rng: _marked(image),
}


def plant(folder: Path) -> None:
    """Copy 3,000 images, and plant ten altered copies of 300 of them."""
    files = sorted((DATA / "imagenette/train").rglob("*.JPEG"))[:IMAGES]
    rng = random.Random(0)  # noqa: S311
    chosen = set(rng.sample(range(len(files)), ORIGINALS))
    for number, file in enumerate(files):
        (folder / f"{number:05}.jpg").write_bytes(file.read_bytes())
        if number in chosen:
            image = Image.open(file).convert("RGB")
            for name, alter in ALTERATIONS.items():
                quality = 30 if name == "jpeg" else 90
                alter(image, rng).save(folder / f"{number:05}--{name}.jpg", quality=quality)


def duplicates() -> dict[str, float]:
    """Recall and precision of the pairs inside groups: ours, and imagededup's at its best.

    For imagededup, the threshold is the one with the largest recall at our bar of precision.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plant(folder)
        start = time.perf_counter()
        images = FolderImages(folder, size=128)
        found = find_duplicates(thumbnails(images), [(images, row) for row in range(len(images))])
        group = group_duplicates(found, len(images))
        seconds = time.perf_counter() - start
        names = images.names()
        recall, precision = _agreement(found.pairs, _origins(names))
        results = {
            "duplicates, ours: recall": recall,
            "duplicates, ours: precision": precision,
            "duplicates, ours: seconds": seconds,
        }
        group_of = dict(zip(names, group.tolist(), strict=True))
        for name in ALTERATIONS:
            copies = [each for each in names if each.endswith(f"--{name}.jpg")]
            results[f"duplicates, ours, {name}: share found"] = mean(
                group_of[copy] == group_of[f"{copy[:5]}.jpg"] >= 0 for copy in copies
            )
        for method, seconds, names, scores in _imagededup(folder):
            best = max(
                recall
                for recall, precision in _at_thresholds(scores, _origins(names))
                if precision >= PRECISION
            )
            results[f"duplicates, {method}: recall at precision {PRECISION}"] = best
            results[f"duplicates, {method}: seconds"] = seconds
    return results


def _origins(names: list[str]) -> Rows:
    """Return the number of the image that each file shows."""
    return np.array([int(name[:5]) for name in names])


def _agreement(pairs: Rows, origins: Rows) -> tuple[float, float]:
    """Return recall and precision of the pairs inside the groups that pairs connect."""
    none = np.zeros(len(pairs), bool)
    group = group_duplicates(Duplicates(pairs, none.astype(np.float32), none, none), len(origins))
    members = group >= 0
    both = np.unique(np.stack([group, origins])[:, members], axis=1, return_counts=True)[1]
    right, found, total = (
        sum(count * (count - 1) // 2 for count in counts.tolist())
        for counts in (both, np.bincount(group[members]), np.bincount(origins))
    )
    return right / total, right / max(found, 1)


def _imagededup(folder: Path) -> Iterator[tuple[str, float, list[str], Floats]]:
    """Yield name, seconds, files and similarities of all pairs of imagededup's methods.

    Where the weights of its CNN cannot be downloaded, it gets ours.
    """
    from imagededup.methods import CNN, PHash
    from imagededup.utils import CustomModel

    start = time.perf_counter()
    codes = PHash(verbose=False).encode_images(image_dir=str(folder))
    bits = np.array([[int(bit) for bit in f"{int(code, 16):064b}"] for code in codes.values()])
    signs = 2 * bits.astype(np.float32) - 1
    yield "imagededup PHash", time.perf_counter() - start, list(codes), signs @ signs.T

    name = "imagededup CNN"
    try:
        cnn = CNN(verbose=False)
    except URLError:
        name = "imagededup CNN with lite0"
        encoder = open_encoder(LITE0)
        assert isinstance(encoder, NetworkEncoder)  # noqa: S101
        pixels = Compose([Resize((224, 224)), ToTensor()])
        cnn = CNN(verbose=False, model_config=CustomModel("lite0", encoder.network, pixels))
    start = time.perf_counter()
    codes = cnn.encode_images(image_dir=str(folder))
    points = normalize(np.stack([code.ravel() for code in codes.values()]))
    yield name, time.perf_counter() - start, list(codes), points @ points.T


def _at_thresholds(scores: Floats, origins: Rows) -> Iterator[tuple[float, float]]:
    """Yield recall and precision at a hundred thresholds, until the precision is low."""
    first, second = np.triu_indices(len(scores), 1)
    flat = scores[first, second]
    right = flat[origins[first] == origins[second]]
    for threshold in np.unique(np.quantile(right, np.linspace(1, 0, 101)))[::-1]:
        chosen = flat >= threshold
        recall, precision = _agreement(np.stack([first[chosen], second[chosen]], 1), origins)
        yield recall, precision
        if precision < PRECISION / 2:
            return


@cache
def _features(name: str) -> tuple[Floats, Rows]:
    if name == "caltech-9":
        images = of_classes(CLASSES, DATA, quick=False, size=SIZE)
    else:
        folder = "imagenette/train" if name == "imagenette" else name
        images = FolderImages(DATA / folder, size=SIZE, channels=3)
    assert images.labels is not None  # noqa: S101
    return open_encoder(LITE0, size=SIZE).embed(images, device="cpu"), images.labels


def _swapped(labels: Rows, seed: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Return labels of which 5 % are replaced by another, and which these are."""
    rng, classes = np.random.default_rng(seed), labels.max() + 1
    rows = rng.choice(len(labels), round(NOISE * len(labels)), replace=False)
    given, wrong = labels.copy(), np.zeros(len(labels), bool)
    given[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    wrong[rows] = True
    return given, wrong


def label_errors() -> dict[str, float]:
    """Average precision of planted label errors: ours, and the best of cleanlab's scores."""
    results = {}
    for name in SETS:
        embeddings, labels = _features(name)
        ours, theirs = [], []
        for seed in range(LABEL_SEEDS):
            given, wrong = _swapped(labels, seed)
            errors = find_label_errors(embeddings, given)
            if isinstance(errors, str):
                raise RuntimeError(errors)
            ours.append(float(average_precision_score(wrong, -errors.confidence)))
            theirs.append(_cleanlab(embeddings, given, wrong))
        for way, found in (("ours", ours), ("cleanlab's best", theirs)):
            results[f"label errors, {name}, {way}: AP"] = mean(found)
            results[f"label errors, {name}, {way}: deviation"] = stdev(found)
    return results


def _cleanlab(embeddings: Any, given: Rows, wrong: npt.NDArray[np.bool_]) -> float:
    """Return the average precision of the best of its scores with the best of four classifiers."""
    from cleanlab.rank import get_label_quality_scores

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    found = []
    for model in (
        LogisticRegression(max_iter=300),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=300)),  # ours
        KNeighborsClassifier(10, metric="cosine"),
    ):
        probs = cross_val_predict(model, embeddings, given, cv=folds, method="predict_proba")
        for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
            quality = get_label_quality_scores(given, probs, method=method)
            found.append(float(average_precision_score(wrong, -quality)))
    return max(found)


def selection() -> dict[str, float]:
    """Linear accuracy from selected images: ours, k-center and random, on the other images."""
    results = {}
    for name in SETS:
        embeddings, labels = _features(name)
        points = normalize(embeddings)
        for count in (100, 300):
            ways: dict[str, Callable[..., Rows]] = {
                "ours": select,
                "k-center": _k_center,
                "random": _random,
            }
            for way, choose in ways.items():
                accuracies = [
                    _accuracy(points, labels, choose(points, count, seed=seed))
                    for seed in range(SEEDS)
                ]
                results[f"selection, {name}, N={count}, {way}: accuracy"] = mean(accuracies)
                results[f"selection, {name}, N={count}, {way}: deviation"] = stdev(accuracies)
    return results


def _random(points: npt.NDArray[np.float32], count: int, *, seed: int) -> Rows:
    return np.random.default_rng(seed).choice(len(points), count, replace=False)


def _k_center(points: npt.NDArray[np.float32], count: int, *, seed: int) -> Rows:
    rows = [int(np.random.default_rng(seed).integers(len(points)))]
    nearest = points @ points[rows[0]]
    while len(rows) < count:
        rows.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, points @ points[rows[-1]])
    return np.array(rows)


def _accuracy(points: npt.NDArray[np.float32], labels: Rows, rows: Rows) -> float:
    others = np.setdiff1d(np.arange(len(points)), rows)
    model = LogisticRegression(C=10, max_iter=500).fit(points[rows], labels[rows])
    return float(model.score(points[others], labels[others]))


def tables(figures: dict[str, float]) -> list[str]:
    """Return the rows of the tables in docs/results/curation.md."""

    def spread(name: str, of: str, scale: float) -> str:
        digits = 1 if scale == 100 else 3
        return (
            f"{scale * figures[f'{name}: {of}']:.{digits}f} ± "
            f"{scale * figures[f'{name}: deviation']:.{digits}f}"
        )

    ours = "duplicates, ours: "
    rows = [
        f"| nearfar | {figures[ours + 'recall']:.3f} | {figures[ours + 'precision']:.3f} | "
        f"{figures[ours + 'seconds']:.0f} |"
    ]
    for name in figures:
        if name.endswith(f"recall at precision {PRECISION}"):
            method = name.removeprefix("duplicates, ").partition(":")[0]
            seconds = figures[f"duplicates, {method}: seconds"]
            rows.append(f"| {method} | {figures[name]:.3f} | ≥ {PRECISION} | {seconds:.0f} |")
    for name in ALTERATIONS:
        found = figures[f"duplicates, ours, {name}: share found"]
        rows.append(f"| {name} | {100 * found:.1f} |")
    for name in SETS:
        scores = (
            spread(f"label errors, {name}, {way}", "AP", 1) for way in ("ours", "cleanlab's best")
        )
        rows.append(f"| {name} | {' | '.join(scores)} |")
    for name in SETS:
        for count in (100, 300):
            scores = (
                spread(f"selection, {name}, N={count}, {way}", "accuracy", 100)
                for way in ("ours", "k-center", "random")
            )
            rows.append(f"| {name} | {count} | {' | '.join(scores)} |")
    return rows
