"""Cells of videos whose frames are images."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nearfar.data import StoredImages, open_images
from readers.cells_video import write
from readers.support import command, rejected, rejection, warned
from readers.table import cell
from readers.targets_anomaly import some_frames


def images_of(path: Path, frame_rate: float = 25, **options: Any) -> np.ndarray:
    """Return the frames of a video as images, int[n, h, w]."""
    images = open_images(path, frame_rate=frame_rate, **options)
    return images.batch(range(len(images)))[:, 0].numpy().astype(int)


def fading(count: int = 50) -> np.ndarray:
    """Return frames of one gray level each, their number."""
    return np.repeat(np.arange(count, dtype=np.uint8), 32 * 40).reshape(count, 32, 40)


@cell("frames", "orientation", "obeyed: rotation and flips; rejected if not by right angles")
def orientation(folder: Path) -> None:
    frames = some_frames()
    turned = np.ascontiguousarray(np.rot90(frames, -1, axes=(1, 2)))
    path = folder / "a.mov"
    write(path, turned, codec="libx264", prepare=lambda s: s.set_display_rotation(90))
    assert np.abs(images_of(path) - frames).mean() < 8
    write(path, frames, codec="libx264", prepare=lambda s: s.set_display_rotation(30))
    with rejection("a.mov", "no readable frame"):
        images_of(path)


@cell("frames", "size", "obeyed: also of pixels that are not square")
def size(folder: Path) -> None:
    def wide(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    write(folder / "a.mkv", some_frames(), codec="libx264", prepare=wide)
    assert images_of(folder / "a.mkv").shape[1:] == (32, 80)


@cell("frames", "range", "obeyed: limited and full range give the same levels")
def value_range(folder: Path) -> None:
    frames = some_frames()
    write(folder / "limited.mkv", frames, codec="libx264")
    write(folder / "full.mkv", frames, "yuvj420p", codec="mjpeg")
    for name in ("limited.mkv", "full.mkv"):
        assert abs(images_of(folder / name).mean() - frames.mean()) < 2, name


@cell("frames", "depth", "obeyed: 8 to 16 bits")
def depth(folder: Path) -> None:
    for pix_fmt in ("gray", "gray10le", "yuv420p10le"):
        write(folder / "a.mkv", some_frames(), pix_fmt)
        assert np.abs(images_of(folder / "a.mkv") - some_frames()).mean() < 3, pix_fmt


@cell("frames", "white point", "obeyed: as the format states it; dark videos are warned of")
def white_point(folder: Path) -> None:
    write(folder / "a.mkv", some_frames() // 20, "gray")
    with warned("a.mkv", "brightest pixel"):
        images_of(folder / "a.mkv")


@cell("frames", "channels", "obeyed: RGB, or gray if the video is")
def channels(folder: Path) -> None:
    write(folder / "gray.mkv", some_frames(), "gray")
    write(folder / "color.mkv", some_frames())
    assert open_images(folder / "gray.mkv", frame_rate=25).shape[0] == 1
    assert open_images(folder / "color.mkv", frame_rate=25).shape[0] == 3


@cell("frames", "transparency", "obeyed: on white")
def transparency(folder: Path) -> None:
    import av

    path = folder / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 40, "bgra"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 40, 4), np.uint8), format="bgra")
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert images_of(path).min() == 255


@cell("frames", "profile", "warned: HDR (PQ, HLG); otherwise ignored: levels are those coded")
def profile(folder: Path) -> None:
    def hdr(stream: Any) -> None:
        stream.codec_context.color_trc = 16  # PQ

    write(folder / "a.mkv", some_frames(), "gray")
    assert np.abs(images_of(folder / "a.mkv") - some_frames()).max() <= 1
    write(folder / "b.mkv", some_frames(), "gray", prepare=hdr)
    with warned("is HDR video (PQ)"):
        images_of(folder / "b.mkv")


@cell("frames", "count", "obeyed: as many as the rate asks for, each at most once")
def count(folder: Path) -> None:
    write(folder / "a.mkv", fading(50), "gray")
    assert len(images_of(folder / "a.mkv", 1)) == 2
    assert len(images_of(folder / "a.mkv", 1000)) == 50
    write(folder / "one.mkv", fading(1), "gray")
    assert len(images_of(folder / "one.mkv", 1)) == 1


@cell("frames", "time", "obeyed: time stamps; the frame that is shown then")
def time(folder: Path) -> None:
    stamps = [0, 900, 1100, 1900, 2100]
    write(folder / "a.mkv", fading(5), "gray", times=stamps)
    assert images_of(folder / "a.mkv", 1)[:, 0, 0].tolist() == [0, 1, 3]
    assert open_images(folder / "a.mkv", frame_rate=1).names()[1] == "a.mkv#t=0.900"


@cell("frames", "rate", "obeyed: --frame-rate; rejected without it, and if not positive")
def rate(folder: Path) -> None:
    write(folder / "a.mkv", fading(50), "gray")
    assert images_of(folder / "a.mkv", 5)[:, 0, 0].tolist() == list(range(0, 50, 5))
    for hertz, length in ((30, 120), (29.97, 12)):  # stamps are rounded to milliseconds
        stamps = [round(1000 * number / hertz) for number in range(length)]
        write(folder / "ms.mkv", fading(length), "gray", times=stamps)
        assert len(images_of(folder / "ms.mkv", hertz)) == length
    with rejection("a.mkv", "is a video", "--frame-rate"):
        open_images(folder / "a.mkv")
    for wrong in (0, -1, float("nan"), float("inf")):
        with rejection("expected more than 0 frames per second"):
            open_images(folder / "a.mkv", frame_rate=wrong)


@cell("frames", "order", "obeyed: as shown, not as coded; any frame can be read by itself")
def order(folder: Path) -> None:
    for name in ("a.mp4", "a.ts"):
        write(folder / name, fading(50), codec="libx264")
        images = open_images(folder / name, frame_rate=5)
        assert isinstance(images, StoredImages)
        assert len(images) == 10
        for row in (9, 0, 4, 3, 9):
            assert abs(int(images.full_size(row)[0, 0, 0]) - 5 * row) <= 2


@cell("frames", "pairing", "none: classes by sub-folder")
def pairing(folder: Path) -> None:
    for name in ("walk", "run"):
        (folder / name).mkdir()
        write(folder / name / "a.mkv", fading(50), "gray")
    images = open_images(folder, frame_rate=1)
    assert (images.labels.tolist(), images.classes) == ([0, 0, 1, 1], ["run", "walk"])


@cell("frames", "names", "obeyed: spaces and other letters; frames are video#t=seconds")
def names(folder: Path) -> None:
    path = write(folder / "caf\u00e9 1.mkv", fading(50), "gray")
    assert open_images(path, frame_rate=1).names() == [
        "caf\u00e9 1.mkv#t=0.000",
        "caf\u00e9 1.mkv#t=1.000",
    ]


@cell("frames", "encoding", "ignored: text about the video")
def encoding(folder: Path) -> None:
    path = write(folder / "a.mkv", fading(2), "gray")
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"\xff\xfe\xfd\xfc"))
    assert len(images_of(path)) == 2


@cell("frames", "root", "rejected: no video; in folders it is skipped")
def root(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(b"text " * 100)
    with rejection("a.mp4", "cannot be read as a video"):
        images_of(folder / "a.mp4")
    write(folder / "b.mkv", fading(50), "gray")
    images = open_images(folder, frame_rate=1)
    assert len(images) == 2
    assert "'a.mp4'" in images.skipped[0]


@cell("frames", "length", "skipped: damaged frames; rejected: none readable")
def length(folder: Path) -> None:
    path = write(folder / "a.mkv", some_frames(), "gray")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len(images_of(path)) < len(some_frames())
    path.write_bytes(b"")
    with rejection("empty file"):
        images_of(path)


@cell("frames", "nan", "none: whole numbers; a rate that is no number is rejected")
def nan(folder: Path) -> None:
    write(folder / "a.mkv", fading(2), "gray")
    said = command("train", folder / "a.mkv", "--frame-rate", "nan", "--out", folder / "run")
    rejected(said, "frame_rate=nan")


@cell("frames", "unused", "counted: videos in a folder without a rate; further streams")
def unused(folder: Path) -> None:
    write(folder / "a.mkv", fading(50), "gray")
    with rejection("contains no images", "frames of videos (1) are not used", "--frame-rate"):
        open_images(folder)
