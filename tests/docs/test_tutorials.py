"""Tutorials: every command runs, in order, on a part of the real data that they are about."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from nearfar.anomaly.methods.memory import has_default_encoder
from pages import BLOCK, ROOT
from program import run

TUTORIALS = ROOT / "docs" / "tutorials"
#: Where a command needs a camera, and what keeps it short.
LIVE, SHORTER = "rtsp://", {"train": ["--epochs", "1"]}


def copy(files: list[Path], folder: Path, prefix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder / f"{prefix}{file.name}")


def flowers(data: Path) -> None:
    for kind in sorted(path for path in (data / "flowers").iterdir() if path.is_dir()):
        files = sorted(kind.iterdir())
        copy(files[:8], Path("photos"), f"{kind.name}-")
        copy(files[8:18], Path("labeled", kind.name))
    shutil.copy(next(Path("photos").iterdir()), "photos/daisy-10140303196.jpg")


def solar_cells(data: Path) -> None:
    copy(sorted((data / "elpv/train/good").iterdir())[:24], Path("normal"))
    copy(sorted((data / "elpv/test/good").iterdir())[:6], Path("parts/good"))
    copy(sorted((data / "elpv/test/defect").iterdir())[:6], Path("parts/defect"))


def avenue(data: Path, frames: int = 80) -> None:
    cut(data / "avenue/training_videos/12.avi", Path("training_videos"), frames)
    cut(data / "avenue/testing_videos/20.avi", Path("testing_videos"), frames)
    masks = loadmat(data / "avenue/testing_label_mask/20_label.mat")["volLabel"]
    Path("testing_label_mask").mkdir()
    savemat("testing_label_mask/20_label.mat", {"volLabel": masks.reshape(1, -1)[:, :frames]})


def cut(video: Path, folder: Path, frames: int) -> None:
    """Copy the first frames of a video."""
    folder.mkdir()
    with av.open(video) as source, av.open(folder / video.name, "w") as out:
        stream = source.streams.video[0]
        copied = out.add_stream_from_template(stream)
        for packet in islice(source.demux(stream), frames):
            packet.stream = copied
            out.mux(packet)


PREPARED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "camera.md": ("avenue", avenue),
    "parts.md": ("elpv", solar_cells),
    "photographs.md": ("flowers", flowers),
}


def test_every_tutorial_is_tested():
    assert sorted(path.name for path in TUTORIALS.glob("*.md")) == sorted(PREPARED)


@pytest.mark.parametrize("page", PREPARED)
def test_tutorial_runs(page, data_root, tmp_path, monkeypatch):
    name, prepare = PREPARED[page]
    if not (data_root / name).is_dir():
        pytest.skip(f"no {data_root / name}")
    if not has_default_encoder():
        pytest.skip("no weights of EfficientNet-lite0")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    prepare(data_root)
    for language, block in BLOCK.findall((TUTORIALS / page).read_text()):
        if language == "python":
            images = [
                np.asarray(Image.open(path).convert("RGB")) for path in Path("parts").rglob("*.jpg")
            ]
            exec(compile(block, page, "exec"), {"images": images})  # noqa: S102 - code of our own
        for line in block.splitlines():
            if line.startswith("$ nearfar ") and LIVE not in line:
                words = shlex.split(line.removeprefix("$ nearfar "), comments=True)
                assert run(*words, *SHORTER.get(words[0], [])) == 0, line
