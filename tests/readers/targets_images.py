"""Damaged folders, image files, array files, arrays, configurations and run folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from readers.fuzz import outcome, target
from readers.support import command


def some_pixels(count: int = 6, side: int = 12) -> np.ndarray:
    """Return random color images, uint8[n, side, side, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def train_run(fixed: Path) -> Path:
    """Train a small run on color images of 12×12 pixels."""
    pixels = fixed / "pixels.npy"
    np.save(pixels, some_pixels(12))
    said = command(
        *("train", pixels, "--out", fixed / "run", "--pretrain-epochs", 1, "--epochs", 1),
        *("--batch-size", 4, "--embedding-size", 4, "--clusters", 2, "--device", "cpu"),
    )
    assert said.code == 0, said
    return fixed / "run"


def prepare_folder(inputs: Path, fixed: Path) -> None:
    train_run(fixed)
    for number, pixels in enumerate(some_pixels()):
        folder = inputs / f"class {number % 2}"
        folder.mkdir(exist_ok=True)
        ending = (".png", ".jpg", ".gif", ".tif", ".webp", ".bmp")[number]
        Image.fromarray(pixels).save(folder / f"{number}{ending}")


@target("folder", prepare_folder)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    out = output.with_suffix(".npz")
    return outcome(command("encode", fixed / "run", inputs, "--out", out, "--device", "cpu"))
