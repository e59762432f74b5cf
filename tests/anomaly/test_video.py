"""What videos say about themselves: orientation, edits, time stamps, streams, depth."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearfar.anomaly import open_clips
from nearfar.errors import NearfarError

av = pytest.importorskip("av")

SHAPE = (48, 64)


def moving(count: int = 30) -> np.ndarray:
    """A block that moves over a ramp, with a mark in one corner; uint8[n, h, w]."""
    clip = np.repeat(np.linspace(40, 140, SHAPE[1])[None, None], SHAPE[0], axis=1)
    clip = np.repeat(clip, count, axis=0).round().astype(np.uint8)
    for number in range(count):
        clip[number, 20:32, number : number + 8] = 220
    clip[:, :8, :8] = 250
    return clip


def write(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    rate: int = 25,
    times: list[float] | None = None,
    prepare=lambda stream: None,
    **options: str,
) -> Path:
    """Write gray frames; `times` are their time stamps in seconds."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], pix_fmt
        stream.options = {"crf": "4"} if codec == "libx264" else {}
        stream.options |= options
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        prepare(stream)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.repeat(pixels[..., None], 3, 2), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def remux(source: Path, path: Path, *, earlier: float = 0, dropped=()) -> Path:
    """Copy packets without encoding anew, as `ffmpeg -c copy`."""
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for number, packet in enumerate(given.demux(stream)):
            if packet.dts is None or number in dropped:
                continue
            packet.pts -= round(earlier / stream.time_base)
            packet.dts -= round(earlier / stream.time_base)
            packet.stream = copy
            out.mux(packet)
    return path


def read(path: Path, **options):
    (clip,) = open_clips(path, **options)
    frames = list(clip)
    return clip, frames, np.stack([frame.pixels for frame in frames]).astype(int)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_video_is_turned_as_it_says(tmp_path, degrees):
    frames = moving(5)
    turned = np.ascontiguousarray(np.rot90(frames, -degrees // 90, axes=(1, 2)))
    path = write(tmp_path / "a.mp4", turned, prepare=lambda s: s.set_display_rotation(degrees))
    _, _, pixels = read(path)
    assert pixels.shape == frames.shape
    assert np.abs(pixels - frames).mean() < 3


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((-1, 0, 0, 1), lambda frames: frames[:, :, ::-1]),
        ((1, 0, 0, -1), lambda frames: frames[:, ::-1]),
        ((0, 1, 1, 0), lambda frames: frames.swapaxes(1, 2)),
        ((0, -1, -1, 0), lambda frames: frames[:, ::-1, ::-1].swapaxes(1, 2)),
    ],
    ids=["mirrored", "upside down", "transposed", "both"],
)
def test_video_is_flipped_as_it_says(tmp_path, matrix, shown):
    a, b, c, d = (value << 16 for value in matrix)
    values = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    frames = moving(5)
    path = write(tmp_path / "a.mp4", frames, prepare=lambda s: s.set_display_matrix(values))
    _, _, pixels = read(path)
    assert np.abs(pixels - shown(frames)).mean() < 3


def test_video_turned_by_another_angle_is_refused(tmp_path):
    path = write(tmp_path / "a.mp4", moving(5), prepare=lambda s: s.set_display_rotation(30))
    with pytest.raises(NearfarError, match="not a multiple of 90 degrees"):
        read(path)


def test_video_has_square_pixels(tmp_path):
    def twice_as_wide(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    path = write(tmp_path / "a.mp4", moving(5), prepare=twice_as_wide)
    _, _, pixels = read(path)
    assert pixels.shape[1:] == (48, 128)
    _, _, pixels = read(path, size=(24, 32))
    assert pixels.shape[1:] == (24, 32)


def test_frames_hidden_by_an_edit_list_are_not_missed(tmp_path):
    whole = write(tmp_path / "whole.mp4", moving(), g="250")
    clip, frames, pixels = read(remux(whole, tmp_path / "cut.mp4", earlier=0.4))
    assert len(frames) == clip.nominal_total == 20
    assert clip.skipped == clip.notes == []
    assert np.abs(pixels - moving()[10:]).mean() < 3
    assert frames[0].time == 0


def test_cut_video_that_is_damaged_as_well_is_reported(tmp_path):
    whole = write(tmp_path / "whole.mp4", moving(), g="250")
    cut = remux(whole, tmp_path / "cut.mp4", earlier=0.4)
    data = bytearray(cut.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") if b"moov" in data[start:] else len(data)
    data[(start + 2 * end) // 3 : end - 8] = bytes(end - 8 - (start + 2 * end) // 3)
    cut.write_bytes(data)
    clip, _, _ = read(cut)
    assert clip.skipped


@pytest.mark.parametrize("extension", ["mkv", "mp4", "ts", "wmv", "MTS", "flv", "unknown"])
def test_sound_video_of_any_format_gives_no_line(tmp_path, extension):
    names = {"MTS": "mpegts", "unknown": "matroska"}
    path = tmp_path / f"a.{extension}"
    codec = {"wmv": "wmv2", "flv": "flv1"}.get(extension, "libx264")
    with av.open(str(path), "w", format=names.get(extension)) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *SHAPE, "yuv420p"
        for pixels in moving():
            frame = av.VideoFrame.from_ndarray(np.repeat(pixels[..., None], 3, 2), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    clips = open_clips(path)
    (clip,) = clips
    assert len(list(clip)) == 30
    assert clips.skipped == clip.skipped == clip.notes == []
    assert clip.rate == pytest.approx(25, rel=0.02)
    assert len(open_clips(tmp_path)) == 1


def test_truncated_mkv_is_reported(tmp_path):
    path = write(tmp_path / "a.mkv", moving(), g="5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip, frames, _ = read(path)
    assert len(frames) < 25
    assert any("of 1.20 seconds" in line for line in clip.skipped)


def test_frames_have_the_time_of_their_time_stamps(tmp_path):
    times = [number / 25 + (0.2 if number >= 10 else 0) for number in range(30)]
    clip, frames, _ = read(write(tmp_path / "a.mkv", moving(), times=times))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=0.002)
    assert [frame.number for frame in frames] == list(range(30))
    assert {frame.number: frame.lost for frame in frames if frame.lost} == {10: 5}
    assert clip.rate == pytest.approx(25, rel=0.02)
    (note,) = clip.notes
    assert "5 frames are missing by the timestamps, the first before 0.60 s" in note


def test_jittering_time_stamps_lose_no_frame(tmp_path):
    jitter = np.random.default_rng(0).uniform(-0.008, 0.008, 30)
    times = [0.1 + number / 25 + jitter[number] for number in range(30)]
    clip, frames, _ = read(write(tmp_path / "a.mkv", moving(), times=times))
    assert not any(frame.lost for frame in frames)
    assert clip.notes == []


def test_times_go_on_in_a_video_that_was_put_together(tmp_path):
    part = write(tmp_path / "part.ts", moving(20), codec="mpeg2video")
    whole = tmp_path / "whole.ts"
    whole.write_bytes(2 * part.read_bytes())
    clip, frames, _ = read(whole)
    assert [frame.time for frame in frames] == pytest.approx(np.arange(40) / 25, abs=0.002)
    assert {frame.number: frame.lost for frame in frames if frame.lost} == {20: 1}
    assert clip.rate == pytest.approx(25)
    (note,) = clip.notes
    assert "timestamps jump back, first at 0.80 s" in note


def test_avi_with_reordered_frames_loses_none(tmp_path):
    clip, frames, pixels = read(write(tmp_path / "a.avi", moving(), bf="3"))
    assert [frame.time for frame in frames] == pytest.approx(np.arange(30) / 25, abs=0.002)
    assert not any(frame.lost for frame in frames)
    assert clip.skipped == clip.notes == []
    assert np.abs(pixels - moving()).mean() < 3


@pytest.mark.parametrize("extension", ["gif", "png", "webp", "avif"])
def test_all_frames_of_an_animated_image_are_used(tmp_path, extension):
    pages = [Image.fromarray(pixels) for pixels in moving(5)]
    path = tmp_path / f"a.{extension}"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=40)
    clip, frames, pixels = read(path)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert clip.rate == pytest.approx(25)
    assert np.abs(pixels - moving(5)).mean() < 6


def test_animation_among_the_frames_of_a_folder_is_told(tmp_path):
    pages = [Image.fromarray(pixels) for pixels in moving(3)]
    for number, page in enumerate(pages):
        page.save(tmp_path / f"{number}.png", save_all=not number, append_images=pages[1:])
    clip, frames, _ = read(tmp_path)
    assert len(frames) == 3
    assert clip.notes == [f"{tmp_path.name!r} holds animations, of which the first picture is used"]


def test_frames_that_cannot_be_decoded_leave_a_gap_in_the_numbers(tmp_path):
    whole = write(tmp_path / "whole.avi", moving(), codec="mjpeg", pix_fmt="yuvj420p")
    data = whole.read_bytes()
    at = [i for i in range(len(data)) if data.startswith(b"\xff\xd8\xff", i)][12]
    end = data.index(b"00dc", at)
    whole.write_bytes(data[:at] + bytes(end - at) + data[end:])
    clip, frames, pixels = read(whole)
    numbers = [frame.number for frame in frames]
    assert numbers == [*range(12), *range(13, 30)]
    assert not any(frame.lost for frame in frames)
    assert np.abs(pixels[12] - moving()[13]).mean() < 4
    assert len(clip.skipped) == 1
    assert "frame 12" in clip.skipped[0]


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx264", "yuv420p10le"),
        ("libx264", "yuv444p"),
        ("ffv1", "gray"),
        ("ffv1", "gray10le"),
        ("ffv1", "yuv422p16le"),
        ("mjpeg", "yuvj420p"),
    ],
)
def test_levels_do_not_depend_on_depth_and_range(tmp_path, codec, pix_fmt):
    _, _, pixels = read(write(tmp_path / "a.mkv", moving(5), codec=codec, pix_fmt=pix_fmt))
    assert np.abs(pixels - moving(5)).mean() < 4
    assert pixels[:, 2:6, 2:6].mean() == pytest.approx(250, abs=5)


def test_transparent_pixels_of_a_video_are_white(tmp_path):
    def write_transparent(path):
        with av.open(str(path), "w") as out:
            stream = out.add_stream("png", rate=25)
            stream.height, stream.width, stream.pix_fmt = *SHAPE, "rgba"
            for _ in range(3):
                colors = np.zeros((*SHAPE, 4), np.uint8)
                colors[:24, :, 3] = 255
                out.mux(stream.encode(av.VideoFrame.from_ndarray(colors, format="rgba")))
            out.mux(stream.encode())
        return path

    _, _, pixels = read(write_transparent(tmp_path / "a.mov"))
    assert (pixels[:, :24] == 0).all()
    assert (pixels[:, 24:] == 255).all()


@pytest.mark.parametrize("shape", [(47, 63), (9, 131)])
def test_odd_sizes_are_kept(tmp_path, shape):
    frames = np.random.default_rng(0).integers(0, 255, (4, *shape)).astype(np.uint8)
    _, _, pixels = read(write(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="gray"))
    np.testing.assert_array_equal(pixels, frames)


def test_video_of_one_frame(tmp_path):
    clip, frames, _ = read(write(tmp_path / "a.mp4", moving(1)))
    assert len(frames) == clip.nominal_total == 1
    assert clip.skipped == clip.notes == []


def with_streams(path: Path, *streams: tuple[str, int, int]) -> Path:
    """Write several video streams of a codec, a height and a level."""
    with av.open(str(path), "w") as out:
        added = []
        for codec, height, level in streams:
            stream = out.add_stream(codec, rate=25)
            stream.height, stream.width = height, 64
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            added.append((stream, level))
        for stream, level in added:
            pixels = np.full((stream.height, 64, 3), level, np.uint8)
            for _ in range(1 if stream.codec_context.name == "mjpeg" else 5):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode())
    return path


def test_one_of_several_streams_is_used_and_said(tmp_path):
    path = with_streams(tmp_path / "a.mkv", ("libx264", 32, 50), ("libx264", 48, 200))
    clip, frames, pixels = read(path)
    assert len(frames) == 5
    assert len({round(level / 50) for level in pixels.mean((1, 2))}) == 1
    assert any("holds 2 videos: only stream" in line for line in clip.notes)


def test_sound_without_video_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        sound = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with pytest.raises(NearfarError, match="holds no video"):
        read(tmp_path / "a.mp4")


def test_playlists_are_not_followed(tmp_path):
    write(tmp_path / "secret.ts", moving(3), codec="mpeg2video")
    for name in ("a.mp4", "a.bin"):
        (tmp_path / name).write_text(
            "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.ts\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(NearfarError):
            read(tmp_path / name)


def test_animated_image_is_a_clip(tmp_path):
    frames = [Image.fromarray(pixels) for pixels in moving(6)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40)
    frames[0].save(tmp_path / "still.gif")
    clip, read_frames, pixels = read(tmp_path / "a.gif")
    assert np.abs(pixels - moving(6)).mean() < 2
    assert clip.rate == 25
    assert [frame.time for frame in read_frames] == pytest.approx([0.04 * n for n in range(6)])
    clips = open_clips(tmp_path)
    assert [clip.name for clip in clips] == ["a.gif"]
    assert "1 images (still.gif" in clips.skipped[0]


def test_folder_names_everything_that_is_not_used(tmp_path):
    for name in ("a.ts", "b.MTS", "c.wmv", "d"):
        codec = "wmv2" if name == "c.wmv" else "mpeg2video"
        formats = {"b.MTS": "mpegts", "d": "mpegts"}
        with av.open(str(tmp_path / name), "w", format=formats.get(name)) as out:
            stream = out.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *SHAPE, "yuv420p"
            for pixels in moving(5):
                rgb = np.repeat(pixels[..., None], 3, 2)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            out.mux(stream.encode())
    for name in ("notes.txt", "labels.csv", "more.txt", "strange.xyz"):
        (tmp_path / name).write_text("no video")
    for number in range(3):
        Image.new("L", (64, 48)).save(tmp_path / f"thumbnail {number}.png")
    (tmp_path / "empty").mkdir()
    clips = open_clips(tmp_path)
    assert [clip.name for clip in clips] == ["a.ts", "b.MTS", "c.wmv", "d"]
    loose, others = clips.skipped
    assert "3 images (thumbnail 0.png, …)" in loose
    assert others.endswith(": .txt (2), folders without images (1), .csv (1), .xyz (1)")


def test_folder_of_frames_names_folders_beside_them(tmp_path):
    for number in range(20):
        Image.new("L", (64, 48)).save(tmp_path / f"{number}.png")
    (tmp_path / "extra").mkdir()
    Image.new("L", (64, 48)).save(tmp_path / "extra" / "1.png")
    clips = open_clips(tmp_path)
    assert clips[0].total == 20
    assert clips.skipped == [f"beside the images of '{tmp_path.name}': 1 folders or videos (extra)"]
