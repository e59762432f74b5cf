"""Cells of videos and folders of frames."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nearfar.anomaly import ArrayClip, Clips, continuity, open_clips
from readers.support import rejection
from readers.table import cell
from readers.targets_anomaly import some_frames, write_frames, write_video


def pixels_of(path: Path, **options: Any) -> np.ndarray:
    """Return the frames of a clip, int[n, h, w]."""
    (clip,) = open_clips(path, **options)
    return np.stack([frame.pixels for frame in clip]).astype(int)


def write(path: Path, frames: np.ndarray, pix_fmt: str = "yuv420p", **more: Any) -> Path:
    """Write gray frames losslessly; `prepare` is called with the stream."""
    import av

    # One thread: several write different pixels from run to run (libswscale 9.5).
    convert = av.video.reformatter.VideoReformatter().reformat
    with av.open(str(path), "w", **more.get("container", {})) as out:
        stream = out.add_stream(more.get("codec", "ffv1"), rate=more.get("rate", 25))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], pix_fmt
        if "times" in more:
            stream.codec_context.time_base = Fraction(1, 1000)
        more.get("prepare", lambda stream: None)(stream)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.repeat(pixels[..., None], 3, 2), format="rgb24")
            frame = convert(frame, format=pix_fmt, threads=1)
            if "times" in more:
                frame.pts, frame.time_base = more["times"][number], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@cell("video", "orientation", "obeyed: rotation and flips; rejected if not by right angles")
def _(folder: Path) -> None:
    frames = some_frames()
    for degrees in (90, 180, 270):
        turned = np.ascontiguousarray(np.rot90(frames, -degrees // 90, axes=(1, 2)))
        path = folder / f"{degrees}.mov"
        write(path, turned, codec="libx264", prepare=lambda s, d=degrees: s.set_display_rotation(d))
        assert np.abs(pixels_of(path) - frames).mean() < 8, degrees
    flip = (-(1 << 16), 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    path = folder / "flip.mov"
    write(
        path,
        frames[..., ::-1].copy(),
        codec="libx264",
        prepare=lambda s: s.set_display_matrix(flip),
    )
    assert np.abs(pixels_of(path) - frames).mean() < 8
    for degrees in (30, 45):
        path = folder / f"{degrees}.mov"
        write(path, frames, codec="libx264", prepare=lambda s, d=degrees: s.set_display_rotation(d))
        with rejection(path.name, "not a multiple of 90 degrees"):
            pixels_of(path)


@cell(
    "video", "size", "obeyed: also of pixels that are not square; rejected if it changes in a clip"
)
def _(folder: Path) -> None:
    def wide(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    write(folder / "a.mkv", some_frames(), codec="libx264", prepare=wide)
    assert pixels_of(folder / "a.mkv").shape[1:] == (32, 80)
    assert pixels_of(folder / "a.mkv", size=(8, 9)).shape[1:] == (8, 9)
    frames = write_frames(folder / "frames", some_frames())
    Image.new("L", (20, 20)).save(frames / "9.png")
    with rejection("frame 6 of 'frames' is 20x20 pixels", "32x40"):
        pixels_of(frames)


@cell("video", "range", "obeyed: limited and full range give the same levels")
def _(folder: Path) -> None:
    frames = some_frames()
    write_video(folder / "limited.mp4", frames, "libx264")
    write(folder / "full.mkv", frames, "yuvj420p", codec="mjpeg")
    for name in ("limited.mp4", "full.mkv"):
        assert abs(pixels_of(folder / name).mean() - frames.mean()) < 2, name


@cell("video", "depth", "obeyed: 8 to 16 bits; images of floats and 32 bits are rejected")
def _(folder: Path) -> None:
    frames = some_frames()
    for pix_fmt in ("gray", "gray10le", "gray12le", "yuv420p10le", "yuv422p16le"):
        write(folder / "a.mkv", frames, pix_fmt)
        assert np.abs(pixels_of(folder / "a.mkv") - frames).mean() < 3, pix_fmt
    Image.fromarray(frames[0].astype(np.float32)).save(folder / "a.tif")
    (clip,) = open_clips(folder / "a.tif")
    with rejection("black and white are unknown: expected 8 or 16 bits"):
        list(clip)


@cell("video", "white point", "obeyed: as the format states it; dark clips are warned of")
def _(folder: Path) -> None:
    frames = np.zeros((2, 32, 40), np.uint8)
    frames[:, :16] = 255
    for pix_fmt in ("gray", "yuv420p", "yuv444p10le"):
        write(folder / "a.mkv", frames, pix_fmt)
        pixels = pixels_of(folder / "a.mkv")
        assert pixels[:, :15].min() >= 254, pix_fmt
        assert pixels[:, 17:].max() <= 1, pix_fmt
    write_frames(folder / "12 of 16", [frame.astype(np.uint16) * 16 for frame in some_frames()])
    (clip,) = open_clips(folder / "12 of 16")
    for _ in range(2):
        list(clip)
        assert ["the brightest pixel is 13" in note for note in clip.notes] == [True]


@cell("video", "channels", "obeyed: color is converted to gray")
def _(folder: Path) -> None:
    frames = some_frames()
    for pix_fmt in ("gray", "yuv420p", "bgr0"):
        write(folder / "a.mkv", frames, pix_fmt)
        assert np.abs(pixels_of(folder / "a.mkv") - frames).mean() < 3, pix_fmt
    write_frames(folder / "frames", np.repeat(frames[..., None], 3, 3))
    np.testing.assert_array_equal(pixels_of(folder / "frames"), frames)


@cell("video", "transparency", "obeyed: transparent pixels are put on white")
def _(folder: Path) -> None:
    import av

    with av.open(str(folder / "a.mov"), "w") as out:
        stream = out.add_stream("png", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 40, "rgba"
        colors = np.zeros((32, 40, 4), np.uint8)
        colors[:16, :, 3] = 255
        out.mux(stream.encode(av.VideoFrame.from_ndarray(colors, format="rgba")))
        out.mux(stream.encode())
    (pixels,) = pixels_of(folder / "a.mov")
    assert (pixels[:16] == 0).all()
    assert (pixels[16:] == 255).all()


@cell(
    "video",
    "profile",
    "warned: HDR (PQ, HLG); ignored otherwise: gray levels are the coded luma; in frames as images",
)
def _(folder: Path) -> None:
    def marked(stream: Any) -> None:
        stream.codec_context.color_primaries = 9  # BT.2020

    def hdr(stream: Any) -> None:
        stream.codec_context.color_trc = 16  # PQ

    frames = some_frames()
    for name, prepare in (("a.mkv", marked), ("b.mkv", hdr)):
        write(folder / name, frames, "gray", prepare=prepare)
        (clip,) = open_clips(folder / name)
        np.testing.assert_array_equal([frame.pixels for frame in clip], frames)
        assert bool(clip.notes) == (name == "b.mkv")
    assert "HDR video (PQ)" in clip.notes[0]


@cell("video", "count", "obeyed: edit lists, one frame, animated images; skipped: a missing end")
def _(folder: Path) -> None:
    import av

    write_video(folder / "whole.mp4", some_frames(10), "libx264")
    with av.open(str(folder / "whole.mp4")) as given, av.open(str(folder / "b.mp4"), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.pts -= round(4 / 25 / stream.time_base)
                packet.dts -= round(4 / 25 / stream.time_base)
                packet.stream = copy
                out.mux(packet)
    (clip,) = open_clips(folder / "b.mp4")
    assert len(list(clip)) == 6
    assert clip.skipped == clip.notes == []
    write_video(folder / "one.mp4", some_frames(1), "libx264")
    assert len(pixels_of(folder / "one.mp4")) == 1
    pages = [Image.fromarray(pixels) for pixels in some_frames()]
    pages[0].save(folder / "a.gif", save_all=True, append_images=pages[1:], duration=40)
    assert len(pixels_of(folder / "a.gif")) == 6
    cut = write(folder / "cut.avi", some_frames(20))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (clip,) = open_clips(cut)
    assert len(list(clip)) < 20
    assert any("of 20 frames" in line for line in clip.skipped)


@cell(
    "video", "time", "obeyed: times of alerts and gaps, across which nothing moves; warned of gaps"
)
def _(folder: Path) -> None:
    times = [40 * number + 200 * (number > 2) for number in range(6)]
    write(folder / "a.mkv", some_frames(), "gray", times=times)
    (clip,) = open_clips(folder / "a.mkv")
    frames = list(clip)
    assert [frame.time for frame in frames] == [time / 1000 for time in times]
    assert [frame.lost for frame in frames] == [0, 0, 0, 5, 0, 0]
    assert len(clip.notes) == 1
    assert "5 frames are missing" in clip.notes[0]


@cell("video", "rate", "obeyed: rejected if it is not that of the normal clips")
def _(folder: Path) -> None:
    from nearfar.anomaly import Detector, DetectorConfig, Grid

    write(folder / "a.mkv", some_frames(), "gray", rate=10)
    (clip,) = open_clips(folder / "a.mkv")
    assert clip.rate == 10
    with rejection("'a.mkv' has 10 frames per second, the normal clips 25"):
        Detector(DetectorConfig(), Grid((48, 48), 48, 12), [], rate=25).check_rate(clip)


@cell("video", "order", "obeyed: frames as shown, not as coded; images by number, 2 before 10")
def _(folder: Path) -> None:
    frames = np.stack([np.full((32, 40), 20 * number, np.uint8) for number in range(12)])
    write_video(folder / "a.mp4", frames, "libx264")
    assert (np.diff(pixels_of(folder / "a.mp4").mean((1, 2))) > 10).all()
    np.testing.assert_array_equal(pixels_of(write_frames(folder / "frames", frames)), frames)
    Image.fromarray(frames[5]).save(folder / "frames" / "5.jpg")
    (clip,) = open_clips(folder / "frames")
    assert len(list(clip)) == 13
    assert ["1 of 13 frames have the name of another" in note for note in clip.notes] == [True]


@cell("video", "pairing", "none: see masks")
def _(folder: Path) -> None:
    write_frames(folder / "a", some_frames())
    write_frames(folder / "a_gt", some_frames())
    assert [clip.name for clip in open_clips(folder)] == ["a"]


@cell(
    "video",
    "names",
    "obeyed: any extension is tried; spaces, Unicode, unprintable characters escaped",
)
def _(folder: Path) -> None:
    source = write_video(folder / "a.ts", some_frames(), "mpeg2video")
    for name in ("b.MTS", "no ending", "ein Gerät.xyz", "tab\t.ts", "file:c.ts", "%d.ts"):
        shutil.copy(source, folder / name)
    clips = open_clips(folder)
    assert len(clips) == 7
    assert all(len(list(clip)) == 6 for clip in clips)
    assert all(clip.name.isprintable() for clip in clips)


@cell("video", "encoding", "ignored: damaged text about the video does not matter")
def _(folder: Path) -> None:
    path = write(
        folder / "a.mkv", some_frames(), "gray", container={"metadata_encoding": "latin-1"}
    )
    data = path.read_bytes()
    at = data.index(b"Lavf")
    path.write_bytes(data[:at] + b"\xff\xfe\xfd\xfc" + data[at + 4 :])
    assert len(pixels_of(path)) == 6


@cell(
    "video", "root", "obeyed by content; rejected: sound alone, playlists, no video; one of several"
)
def _(folder: Path) -> None:
    import av

    write(folder / "a.bin", some_frames(), "gray", container={"format": "matroska"})
    assert len(pixels_of(folder / "a.bin")) == 6
    (folder / "list.mp4").write_text("#EXTM3U\n#EXTINF:5,\na.bin\n#EXT-X-ENDLIST\n")
    with rejection("list.mp4"):
        pixels_of(folder / "list.mp4")
    (folder / "notes.bin").write_text("no video")
    with rejection("notes.bin", "not a readable video"):
        open_clips(folder / "notes.bin")
    with av.open(str(folder / "two.mkv"), "w") as out:
        streams = [out.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 32, 40, "gray"
        for stream in streams:
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 40), np.uint8), format="gray")
            out.mux(stream.encode(frame))
            out.mux(stream.encode())
    (clip,) = open_clips(folder / "two.mkv")
    assert len(list(clip)) == 1
    assert "2 videos" in clip.notes[0]


@cell("video", "length", "rejected: empty, none readable; skipped: damaged frames, a cut end")
def _(folder: Path) -> None:
    (folder / "empty.mp4").touch()
    with rejection("empty.mp4", "0 bytes"):
        pixels_of(folder / "empty.mp4")
    frames = write_frames(folder / "frames", some_frames())
    (frames / "2.png").write_bytes((frames / "2.png").read_bytes()[:60])
    (clip,) = open_clips(frames)
    assert [frame.number for frame in clip] == [0, 1, 3, 4, 5]
    assert "2.png" in clip.skipped[0]
    for path in frames.iterdir():
        path.write_bytes(b"no image")
    with rejection("'frames' has no readable frame"):
        pixels_of(frames)


@cell("video", "nan", "none: whole numbers; rejected in arrays of frames")
def _(folder: Path) -> None:
    with rejection("frame 0 is float32"):
        ArrayClip([np.full((8, 8), np.nan, np.float32)])


@cell(
    "video",
    "unused",
    "counted: loose images, other files, folders without images; photographs told",
)
def _(folder: Path) -> None:
    for name in ("a", "b"):
        write_frames(folder / name, some_frames(12))
    (folder / "notes.txt").touch()
    (folder / "empty").mkdir()
    Image.new("L", (40, 32)).save(folder / "preview.jpg")
    clips = open_clips(folder)
    assert isinstance(clips, Clips)
    assert len(clips) == 2
    assert "1 images (preview.jpg" in clips.skipped[0]
    assert "folders without images (1), .txt (1)" in clips.skipped[1]
    assert continuity(clips).kind == "video"
    photographs = np.random.default_rng(0).integers(0, 255, (20, 32, 40)).astype(np.uint8)
    write_frames(folder / "photographs", photographs)
    assert continuity(open_clips(folder / "photographs")).kind == "photographs"
