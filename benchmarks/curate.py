"""Curation beside imagededup, cleanlab and k-center, on planted copies and wrong labels.

imagededup and cleanlab are compared if they are installed: `pip install imagededup cleanlab`.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from nearfar.curation import (
    find_duplicates,
    find_label_errors,
    group_duplicates,
    select,
    thumbnails,
)
from nearfar.data import FolderImages
from nearfar.encoders import open_encoder

DATA = Path(os.environ.get("NEARFAR_DATA", "../shared/data"))
IMAGES, ORIGINALS = 3000, 300
PRECISION = 0.99
SETS = {
    "imagenette": "imagenette/train",
    "flowers": "flowers",
    "caltech": "caltech101/101_ObjectCategories",
}
SIZE = 96
NOISE = 0.05
SEEDS = 5

Rows = npt.NDArray[np.int64]
Pairs = set[tuple[str, str]]


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
    """Recall and precision of pairs: ours, and imagededup's recall at our bar of precision."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plant(folder)
        names = sorted(path.name for path in folder.iterdir())
        origins = Counter(name[:5] for name in names)
        total = sum(count * (count - 1) // 2 for count in origins.values())

        start = time.perf_counter()
        images = FolderImages(folder, size=128)
        found = find_duplicates(thumbnails(images), [(images, row) for row in range(len(images))])
        group = group_duplicates(found, len(images))
        seconds = time.perf_counter() - start
        pairs: Pairs = set()
        for number in range(group.max(initial=-1) + 1):
            members = [images.files[row] for row in np.flatnonzero(group == number)]
            pairs |= set(combinations(members, 2))
        right = sum(a[:5] == b[:5] for a, b in pairs)
        results = {
            "duplicates: recall": right / total,
            "duplicates: precision": right / max(len(pairs), 1),
            "duplicates: seconds": seconds,
        }
        if find_spec("imagededup"):
            results |= _imagededup(folder, total)
    return results


def _imagededup(folder: Path, total: int) -> dict[str, float]:
    """Return the best recall of imagededup over all thresholds at the bar of precision."""
    from imagededup.methods import CNN, PHash

    results = {}
    for name, make, option, least in (
        ("PHash", PHash, "max_distance_threshold", 24),
        ("CNN", CNN, "min_similarity_threshold", 0.6),
    ):
        try:
            start = time.perf_counter()
            found = make(verbose=False).find_duplicates(
                image_dir=str(folder), scores=True, **{option: least}
            )
        except Exception as error:  # weights that cannot be downloaded
            print(f"imagededup's {name} does not run: {error}")
            continue
        results[f"duplicates: imagededup {name}: seconds"] = time.perf_counter() - start
        scores = {
            (a, b): float(score) * (-1 if name == "PHash" else 1)
            for a, near in found.items()
            for b, score in near
            if a < b
        }
        ordered = sorted(scores, key=lambda pair: -scores[pair])
        right = np.cumsum([a[:5] == b[:5] for a, b in ordered])
        fine = right / np.arange(1, len(right) + 1) >= PRECISION
        best = int(right[fine].max(initial=0))
        results[f"duplicates: imagededup {name}: recall at precision {PRECISION}"] = best / total
    return results


def _features(name: str) -> tuple[npt.NDArray[np.float32], Rows]:
    images = FolderImages(DATA / SETS[name], size=SIZE, channels=3)
    encoder = open_encoder("timm:tf_efficientnet_lite0", size=SIZE)
    assert images.labels is not None  # noqa: S101
    return encoder.embed(images, device="cpu"), images.labels


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
        for seed in range(3):
            given, wrong = _swapped(labels, seed)
            found = find_label_errors(embeddings, given)
            if isinstance(found, str):
                raise RuntimeError(found)
            ours.append(average_precision_score(wrong, -found.confidence))
            if find_spec("cleanlab"):
                theirs.append(_cleanlab(embeddings, given, wrong))
        results[f"label errors, {name}: AP"] = mean(ours)
        if theirs:
            results[f"label errors, {name}: AP of cleanlab's best"] = mean(theirs)
    return results


def _cleanlab(embeddings: Any, given: Rows, wrong: npt.NDArray[np.bool_]) -> float:
    from cleanlab.rank import get_label_quality_scores

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    found = []
    for model in (
        LogisticRegression(max_iter=300),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)),
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


def all_of_curation() -> dict[str, float]:
    """Return all figures."""
    return {**duplicates(), **label_errors(), **selection()}
