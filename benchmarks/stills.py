"""Detectors of defects in photographs, on ELPV's solar cells: quality, time and memory.

    python -m benchmarks.stills                     # every row, with all normal images
    python -m benchmarks.stills --images 200 patch-memory patchcore

Each row runs in a process of its own. Times are those of the processor, over all cores.
"patchcore" and "padim" are those of anomalib, which they need, with the same encoder, weights,
feature maps, images and size. Data are in elpv of the folder in NEARFAR_DATA.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from nearfar.anomaly import (
    DetectorConfig,
    average_precision,
    fit_detector,
    open_clips,
    roc_auc,
)
from nearfar.config import DEFAULT_ENCODER, recipe
from nearfar.data import default_data_root, open_images
from nearfar.models import pretrained_encoder
from nearfar.training import train

Scores = npt.NDArray[np.float64]
#: Share of normal patches that anomalib's PatchCore keeps by default, and number of features that
#: its PaDiM keeps of a ResNet-18.
CORESET, PADIM_FEATURES = 0.1, 100
#: Layers of the default encoder of strides 8 and 16, and images per batch of anomalib's models.
LAYERS, BATCH = ["blocks.2", "blocks.4"], 32
#: Side of the images that the encoder is continued on, in pixels.
CONTINUED_SIDE = 112
COLUMNS = ("image AUROC", "AP", "fit (CPU s)", "score (CPU ms/image)", "peak memory (GB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"some of {', '.join(ROWS)}")
    parser.add_argument("--images", type=int, default=1000, help="number of normal images")
    parser.add_argument("--alone", action="store_true", help="run one row in this process")
    chosen = parser.parse_args()
    if chosen.alone:
        print(json.dumps(measure(chosen.rows[0], chosen.images)))
        return
    print("| detector | " + " | ".join(COLUMNS) + " |")
    print("| --- |" + " ---: |" * len(COLUMNS), flush=True)
    for row in chosen.rows or ROWS:
        again = [sys.executable, "-m", "benchmarks.stills", row, "--alone"]
        again += ["--images", str(chosen.images)]
        done = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
        if done.returncode:
            print(f"| {row} | failed |")
            continue
        figures = json.loads(done.stdout.splitlines()[-1])
        print(f"| {row} | " + " | ".join(f"{figures[name]:.4g}" for name in COLUMNS) + " |")


def measure(row: str, count: int) -> dict[str, float]:
    """Return the figures of a row."""
    root = default_data_root() / "elpv"
    every = sorted((root / "train" / "good").iterdir())
    normal = [every[place] for place in np.linspace(0, len(every) - 1, count).astype(int)]
    tests = [sorted((root / "test" / kind).iterdir()) for kind in ("good", "defect")]
    start = time.process_time()
    with TemporaryDirectory() as folder:
        score = ROWS[row](normal, Path(folder))
        fitted = time.process_time()
        scores = [score(files) for files in tests]
        scored = time.process_time()
    labels = np.repeat([False, True], [len(some) for some in scores])
    values = np.concatenate(scores)
    return {
        "image AUROC": roc_auc(labels, values) or 0.0,
        "AP": average_precision(labels, values) or 0.0,
        "fit (CPU s)": fitted - start,
        "score (CPU ms/image)": 1000 * (scored - fitted) / len(values),
        "peak memory (GB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def _nearfar(**settings: Any) -> Callable[[list[Path], Path], Callable[[list[Path]], Scores]]:
    def fit(normal: list[Path], folder: Path) -> Callable[[list[Path]], Scores]:
        detector = fit_detector(
            open_clips(_linked(normal, folder / "normal")),
            folder / "run",
            DetectorConfig.stills(**settings),
        )

        def score(files: list[Path]) -> Scores:
            (clip,) = open_clips(_linked(files, folder / files[0].parent.name))
            return np.array([scored.score for scored in detector.score(clip)])

        return score

    return fit


def _linked(files: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file)
    return folder


def _continued(normal: list[Path], folder: Path) -> Callable[[list[Path]], Scores]:
    """Patch memory of the default encoder, continued with near and far relations on the images."""
    images = open_images(_linked(normal, folder / "images"), size=CONTINUED_SIDE)
    train(images, recipe("continue", backbone=DEFAULT_ENCODER), folder=folder / "encoder")
    return _nearfar(methods=("patch-memory",), encoder=str(folder / "encoder"))(normal, folder)


def _patchcore(normal: list[Path], folder: Path) -> Callable[[list[Path]], Scores]:
    anomalib = import_module("anomalib.models.image.patchcore.torch_model")
    name = DEFAULT_ENCODER.removeprefix("timm:")
    model = anomalib.PatchcoreModel(LAYERS, backbone=name, pre_trained=False)
    return _anomalib(model, normal, lambda: model.subsample_embedding(CORESET))


def _padim(normal: list[Path], folder: Path) -> Callable[[list[Path]], Scores]:
    anomalib = import_module("anomalib.models.image.padim.torch_model")
    torch.manual_seed(0)
    name = DEFAULT_ENCODER.removeprefix("timm:")
    model = anomalib.PadimModel(name, LAYERS, pre_trained=False, n_features=PADIM_FEATURES)
    return _anomalib(model, normal, model.fit)


def _anomalib(
    model: Any, normal: list[Path], finish: Callable[[], object]
) -> Callable[[list[Path]], Scores]:
    """Fit a model of anomalib that collects embeddings, then call `finish`."""
    weights = pretrained_encoder(DEFAULT_ENCODER).features.state_dict()
    own = model.feature_extractor.feature_extractor
    missing = own.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise SystemExit(f"weights of {missing} are missing")
    model.train()
    model.feature_extractor.eval()
    with torch.no_grad():
        for start in range(0, len(normal), BATCH):
            model(_batch(normal[start : start + BATCH]))
        finish()
    model.eval()

    @torch.no_grad()
    def score(files: list[Path]) -> Scores:
        batches = (_batch(files[start : start + BATCH]) for start in range(0, len(files), BATCH))
        return torch.cat([model(batch).pred_score.flatten() for batch in batches]).double().numpy()

    return score


def _batch(files: list[Path]) -> torch.Tensor:
    images = [
        Image.open(f).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR) for f in files
    ]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


ROWS = {
    "patch-memory": _nearfar(methods=("patch-memory",)),
    "patch-memory-continued": _continued,
    "image-memory": _nearfar(methods=("image-memory",)),
    "cut-paste": _nearfar(methods=("cut-paste",)),
    "patchcore": _patchcore,
    "padim": _padim,
}

if __name__ == "__main__":
    main()
