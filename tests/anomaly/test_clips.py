"""Clips from folders, videos and streams, and what can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearfar.anomaly import as_frames, find_masks, open_clips
from nearfar.errors import NearfarError

FRAMES = np.random.default_rng(0).integers(0, 256, (12, 32, 48), dtype=np.uint8)


def write_frames(folder: Path, frames=FRAMES, extension=".tif", name="{:03}") -> Path:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(frames, start=1):
        Image.fromarray(pixels).save(folder / f"{name.format(number)}{extension}")
    return folder


def write_video(path: Path, frames=FRAMES, codec="ffv1") -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], "gray"
        if codec == "libx264":
            stream.options = {"qp": "0"}
            stream.codec_context.color_range = 2  # all 256 levels
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode())
    return path


def pixels_of(clip):
    return np.stack([frame.pixels for frame in clip])


@pytest.mark.parametrize("extension", [".tif", ".png", ".bmp"])
def test_open_clips_of_a_folder(tmp_path, extension):
    (clip,) = open_clips(write_frames(tmp_path / "clip", extension=extension))
    assert clip.total == len(FRAMES)
    np.testing.assert_array_equal(pixels_of(clip), FRAMES)
    np.testing.assert_array_equal(pixels_of(clip), FRAMES)  # a second iteration


def test_open_clips_sorts_numbers_by_value(tmp_path):
    (clip,) = open_clips(write_frames(tmp_path / "clip", name="frame{}"))
    np.testing.assert_array_equal(pixels_of(clip), FRAMES)


@pytest.mark.parametrize(("name", "codec"), [("clip.avi", "ffv1"), ("clip.mp4", "libx264")])
def test_open_clips_of_a_lossless_video(tmp_path, name, codec):
    (clip,) = open_clips(write_video(tmp_path / name, codec=codec))
    np.testing.assert_array_equal(pixels_of(clip), FRAMES)
    assert clip.rate == 10


def test_open_clips_and_masks_in_the_layout_of_ucsd(tmp_path):
    masks = np.zeros(FRAMES.shape, np.uint8)
    masks[4:, 5:9, 5:9] = 255
    write_frames(tmp_path / "Test" / "Test001", FRAMES)
    write_frames(tmp_path / "Test" / "Test001_gt", masks, ".bmp")
    write_frames(tmp_path / "Test" / "Test006", FRAMES)
    write_frames(tmp_path / "Test" / "Test006_gt", masks, ".bmp", "frame{:03}")
    write_frames(tmp_path / "Test" / "Test010", FRAMES)
    clips = open_clips(tmp_path / "Test")
    assert [clip.name for clip in clips] == ["Test001", "Test006", "Test010"]
    *known, unknown = find_masks(clips)
    for clip, found in zip(clips, known, strict=False):
        read = [found.mask(frame.number, clip.name, frame.pixels.shape) for frame in clip]
        np.testing.assert_array_equal(read, masks > 0)
    assert unknown is None


def test_masks_of_ped2_give_its_frame_labels(data_root):
    root = data_root / "UCSD_Anomaly_Dataset.v1p2" / "UCSDped2"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    clips = open_clips(root / "Test")
    labels = [
        np.array([masks.mask(n, clip.name, (240, 360)).any() for n in range(clip.total)])
        for clip, masks in zip(clips, find_masks(clips), strict=True)
    ]
    assert sum(map(len, labels)) == 2010
    assert sum(map(np.sum, labels)) == 1648
    assert [i for i, clip in enumerate(labels, start=1) if clip.all()] == [8, 9, 10, 11]


def test_clip_skips_a_damaged_frame(tmp_path):
    folder = write_frames(tmp_path / "clip", extension=".png")
    (folder / "005.png").write_bytes((folder / "005.png").read_bytes()[:60])
    (clip,) = open_clips(folder)
    assert [frame.number for frame in clip] == [0, 1, 2, 3, *range(5, 12)]
    assert len(clip.skipped) == 1
    assert "005.png" in clip.skipped[0]
    list(clip)
    assert len(clip.skipped) == 1


def moving(frames: int) -> np.ndarray:
    """A bright block on a noisy background; repeated frames cannot conceal damage."""
    clip = np.repeat(np.random.default_rng(0).integers(0, 90, (1, 96, 128), np.uint8), frames, 0)
    for number in range(frames):
        clip[number, 30:60, number : number + 30] = 200
    return clip


def damage(path: Path, share: float, length: int) -> Path:
    data = bytearray(path.read_bytes())
    start = round(share * len(data))
    data[start : start + length] = bytes(length)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4"])
def test_video_reports_damage_in_the_middle(tmp_path, name):
    path = write_video(tmp_path / name, moving(90), "libx264")
    (whole,) = open_clips(path)
    assert len(list(whole)) == whole.nominal_total == 90
    assert whole.skipped == []
    damage(path, 0.5, 3000)
    (clip,) = open_clips(path)
    assert 45 <= len(list(clip)) < 90
    assert clip.skipped


def test_video_reports_a_missing_end(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (clip,) = open_clips(path)
    assert 20 < len(list(clip)) < 60
    assert any("of 60 frames" in line for line in clip.skipped)


def test_open_clips_of_a_single_image(tmp_path):
    folder = write_frames(tmp_path / "clip", extension=".png")
    (clip,) = open_clips(folder / "003.png")
    np.testing.assert_array_equal(pixels_of(clip), FRAMES[2:3])
    assert clip.file_name(0) == "003.png"
    assert find_masks([clip]) == [None]


def test_open_clips_of_the_current_folder_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(write_frames(tmp_path / "Test001"))
    (here,) = open_clips(".")
    assert here.name == "Test001"
    assert find_masks([here]) == [None]


def test_open_clips_scales_a_video(tmp_path):
    (clip,) = open_clips(write_video(tmp_path / "clip.avi"), size=(16, 24))
    assert pixels_of(clip).shape == (12, 16, 24)


def test_as_frames_checks_and_converts_arrays():
    color = np.repeat(FRAMES[0][..., None], 3, axis=2)
    frames = list(as_frames([FRAMES[0], None, color]))
    assert [frame.number for frame in frames] == [0, 2]
    np.testing.assert_array_equal(frames[1].pixels, FRAMES[0])
    with pytest.raises(NearfarError, match=r"frame 0 is float64\[2, 2\]"):
        list(as_frames([np.zeros((2, 2))]))


def empty_video(folder: Path) -> Path:
    (folder / "a.mp4").touch()
    return folder / "a.mp4"


def no_video(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(b"nothing of the kind" * 100)
    return folder / "a.mp4"


def changing_sizes(folder: Path) -> Path:
    write_frames(folder / "clip")
    Image.fromarray(FRAMES[0, :16]).save(folder / "clip" / "007.tif")
    return folder / "clip"


def all_damaged(folder: Path) -> Path:
    (folder / "clip").mkdir()
    (folder / "clip" / "1.png").write_bytes(b"no")
    return folder / "clip"


def wrong_masks(folder: Path) -> Path:
    write_frames(folder / "clip_gt", FRAMES[:3])
    return write_frames(folder / "clip")


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (empty_video, "0 bytes"),
        (no_video, "cannot be read as a video"),
        (changing_sizes, "frame 6 of 'clip' is 16x48 pixels, those before it 32x48"),
        (all_damaged, "no readable frame"),
        (wrong_masks, "3 masks"),
        (lambda folder: folder, "holds no frames"),
        (lambda folder: folder / "missing", "does not exist"),
        (lambda folder: "~nosuchuser/clips", "does not exist"),
    ],
)
def test_clips_name_a_mistake_in_one_line(tmp_path, make, culprit):
    if make in (empty_video, no_video):
        pytest.importorskip("av")
    with pytest.raises(NearfarError) as error:
        clips = open_clips(make(tmp_path))
        find_masks(clips)
        for clip in clips:
            list(clip)
    assert culprit in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        (("0", "1", "2", "3", "4"), [0, 0, 0, 0, 0]),
        (("f_01", "f_02", "f_05", "f_06", "f_07"), [0, 0, 2, 0, 0]),
        (("000", "005", "010", "020", "025"), [0, 0, 0, 1, 0]),
        (("1", "2", "7"), [0, 0, 0]),
        (("a1", "a2", "b4", "b5", "b6"), [0, 0, 0, 0, 0]),
        (("10", "12", "17", "20", "28"), [0, 0, 0, 0, 0]),
    ],
)
def test_missing_numbers_of_frames_are_told(tmp_path, names, lost):
    for name in names:
        Image.new("L", (16, 16), 200).save(tmp_path / f"{name}.png")
    (clip,) = open_clips(tmp_path)
    assert [frame.lost for frame in clip] == lost
    assert bool(clip.notes) == any(lost)
    assert not any(lost) or f"{sum(lost)} frames are missing by their numbers" in clip.notes[0]
