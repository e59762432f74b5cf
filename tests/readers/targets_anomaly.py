"""Damaged videos, folders of clips and photographs, and masks."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from nearfar.anomaly import find_masks, open_clips
from nearfar.cli import anomaly as commands
from nearfar.errors import NearfarError
from readers.fuzz import outcome, target
from readers.support import call, command

SHAPE = (32, 40)
#: Formats that the damaged videos are in, and their codecs.
VIDEOS = {"a.mp4": "libx264", "b.mkv": "mpeg4", "c.ts": "mpeg2video", "d.avi": "mjpeg"}


def some_frames(count: int = 6, seed: int = 0) -> np.ndarray:
    """Return a block that moves over noise, uint8[n, h, w]."""
    background = np.random.default_rng(seed).integers(60, 90, SHAPE).astype(np.uint8)
    frames = np.repeat(background[None], count, axis=0)
    for number, frame in enumerate(frames):
        frame[8:20, 2 * number : 2 * number + 8] = 220
    return frames


def write_video(path: Path, frames: np.ndarray, codec: str) -> Path:
    """Write gray frames as a video at 25 frames per second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.repeat(pixels[..., None], 3, 2), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_frames(folder: Path, frames: np.ndarray) -> Path:
    """Write frames as images 0.png, 1.png, …"""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def fit(fixed: Path, setting: str) -> None:
    """Fit a small detector."""
    normal = write_frames(fixed / "normal", some_frames(12))
    said = command(
        *("anomaly", "fit", normal, "--out", fixed / "detector", "--setting", setting),
        *("--epochs", 0, "--pretrain-epochs", 1),
    )
    assert said.code == 0, said


def score(inputs: Path, fixed: Path, output: Path) -> str:
    # Waiting for the disk would take most of the time.
    with patch("os.fsync"):
        said = call(commands.score, fixed / "detector", str(inputs), out=output)
    return outcome(said)


def prepare_videos(inputs: Path, fixed: Path) -> None:
    for name, codec in VIDEOS.items():
        write_video(inputs / name, some_frames(), codec)


@target("video", prepare_videos)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    clips, failed, frames = open_clips(inputs), [], 0
    for clip in clips:
        try:
            for frame in clip:
                assert frame.pixels.dtype == np.uint8
                frames += 1
        except NearfarError as error:
            failed.append(error)
    for line in [*clips.skipped, *map(str, failed), *(line for c in clips for line in c.skipped)]:
        assert "\n" not in line
        assert len(line) < 1000
    if not frames:
        raise failed[0]
    return "skipped" if failed or clips.skipped or any(c.skipped for c in clips) else "success"


def prepare_clips(inputs: Path, fixed: Path) -> None:
    fit(fixed, "paper")
    for name in ("one", "two"):
        write_frames(inputs / name, some_frames(4))
    write_frames(inputs / "one_gt", some_frames(4) // 220 * 255)
    Image.fromarray(some_frames()[0]).save(
        inputs / "three.gif", save_all=True, append_images=map(Image.fromarray, some_frames(3)[1:])
    )
    write_video(inputs / "four.mp4", some_frames(3), "mpeg4")


@target("clips", prepare_clips)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    return score(inputs, fixed, output)


def prepare_masks(inputs: Path, fixed: Path) -> None:
    frames = some_frames()
    write_frames(fixed / "new", frames)
    for number, frame in enumerate(frames):
        mask = Image.fromarray((frame == 220).astype(np.uint8) * 255)
        name, mode = [
            ("", "L"),
            ("_mask", "1"),
            ("", "P"),
            ("_mask", "I;16"),
            ("", "L"),
            ("", "1"),
        ][number]
        extension = (".png", ".png", ".bmp", ".tif", ".jpg", ".gif")[number]
        if mode == "I;16":
            mask = Image.fromarray(np.asarray(mask).astype(np.uint16) * 257)
        (mask if mode == "I;16" else mask.convert(mode)).save(inputs / f"{number}{name}{extension}")


@target("masks", prepare_masks)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    clips = open_clips(fixed / "new")
    (masks,) = find_masks(clips, inputs)
    for frame in clips[0]:
        masks.mask(frame.number, "new", frame.pixels.shape)
    return "success"
