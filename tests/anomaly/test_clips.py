"""Frames and masks: folders, videos, streams, patches, and what can be wrong with them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearfar.anomaly import as_frames, find_masks, open_clips
from nearfar.anomaly.clips import Frame
from nearfar.anomaly.patches import Grid, gather_patches, windows
from nearfar.errors import NearfarError

GENERATOR = np.random.default_rng(0)
FRAMES = GENERATOR.integers(0, 256, (12, 32, 48), dtype=np.uint8)


def write_frames(folder: Path, frames=FRAMES, ending=".tif", name="{:03}") -> Path:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(frames, start=1):
        Image.fromarray(pixels).save(folder / f"{name.format(number)}{ending}")
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


@pytest.mark.parametrize("ending", [".tif", ".png", ".bmp"])
def test_a_folder_of_frames(tmp_path, ending):
    (clip,) = open_clips(write_frames(tmp_path / "clip", ending=ending))
    assert clip.total == len(FRAMES)
    np.testing.assert_array_equal(pixels_of(clip), FRAMES)
    np.testing.assert_array_equal(pixels_of(clip), FRAMES)  # again, from the start


def test_numbers_in_names_are_sorted_by_their_value(tmp_path):
    (clip,) = open_clips(write_frames(tmp_path / "clip", name="frame{}"))
    np.testing.assert_array_equal(pixels_of(clip), FRAMES)


@pytest.mark.parametrize(("name", "codec"), [("clip.avi", "ffv1"), ("clip.mp4", "libx264")])
def test_a_video_without_loss_is_its_frames(tmp_path, name, codec):
    (clip,) = open_clips(write_video(tmp_path / name, codec=codec))
    np.testing.assert_array_equal(pixels_of(clip), FRAMES)
    assert clip.rate == 10


def test_the_layout_of_ucsd_with_its_official_names(tmp_path):
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
        read = [found.of(frame.number, clip.name, frame.pixels.shape) for frame in clip]
        np.testing.assert_array_equal(read, masks > 0)
    assert unknown is None


def test_frame_labels_are_those_of_ped2(data_root):
    root = data_root / "UCSD_Anomaly_Dataset.v1p2" / "UCSDped2"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    clips = open_clips(root / "Test")
    labels = [
        np.array([masks.of(n, clip.name, (240, 360)).any() for n in range(clip.total)])
        for clip, masks in zip(clips, find_masks(clips), strict=True)
    ]
    assert sum(map(len, labels)) == 2010
    assert sum(map(np.sum, labels)) == 1648
    assert [i for i, clip in enumerate(labels, start=1) if clip.all()] == [8, 9, 10, 11]


def test_a_damaged_frame_is_skipped_counted_and_leaves_a_gap(tmp_path):
    folder = write_frames(tmp_path / "clip", ending=".png")
    (folder / "005.png").write_bytes((folder / "005.png").read_bytes()[:60])
    (clip,) = open_clips(folder)
    assert [frame.number for frame in clip] == [0, 1, 2, 3, *range(5, 12)]
    assert len(clip.skipped) == 1
    assert "005.png" in clip.skipped[0]
    list(clip)
    assert len(clip.skipped) == 1


def moving(frames: int) -> np.ndarray:
    """A bright block over a noisy ground, which a decoder cannot conceal by repeating frames."""
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
def test_damage_in_the_middle_of_a_video_is_told(tmp_path, name):
    path = write_video(tmp_path / name, moving(90), "libx264")
    (whole,) = open_clips(path)
    assert len(list(whole)) == whole.declared == 90
    assert whole.skipped == []
    damage(path, 0.5, 3000)
    (clip,) = open_clips(path)
    assert 45 <= len(list(clip)) < 90
    assert clip.skipped


def test_a_video_that_breaks_off_is_told(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (clip,) = open_clips(path)
    assert 20 < len(list(clip)) < 60
    assert any("of 60 frames" in line for line in clip.skipped)


def test_a_single_image_is_a_clip(tmp_path):
    folder = write_frames(tmp_path / "clip", ending=".png")
    (clip,) = open_clips(folder / "003.png")
    np.testing.assert_array_equal(pixels_of(clip), FRAMES[2:3])
    assert clip.file(0) == "003.png"
    assert find_masks([clip]) == [None]


def test_the_folder_one_is_in_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(write_frames(tmp_path / "Test001"))
    (here,) = open_clips(".")
    assert here.name == "Test001"
    assert find_masks([here]) == [None]


def test_a_video_can_be_scaled(tmp_path):
    (clip,) = open_clips(write_video(tmp_path / "clip.avi"), size=(16, 24))
    assert pixels_of(clip).shape == (12, 16, 24)


def test_a_stream_of_arrays():
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
        (all_damaged, "no frame that can be read"),
        (wrong_masks, "3 masks"),
        (lambda folder: folder, "holds no frames"),
        (lambda folder: folder / "missing", "does not exist"),
        (lambda folder: "~nosuchuser/clips", "does not exist"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path, make, culprit):
    if make in (empty_video, no_video):
        pytest.importorskip("av")
    with pytest.raises(NearfarError) as error:
        clips = open_clips(make(tmp_path))
        find_masks(clips)
        for clip in clips:
            list(clip)
    assert culprit in str(error.value)
    assert "\n" not in str(error.value)


def test_windows_end_at_each_frame():
    frames = [Frame(number, pixels) for number, pixels in enumerate(FRAMES)]
    found = list(windows(frames, 3))
    assert [number for number, _ in found] == list(range(12))
    np.testing.assert_array_equal(found[7][1], FRAMES[5:8])
    np.testing.assert_array_equal(found[0][1], FRAMES[:3])
    with pytest.raises(NearfarError, match="12 frames in a row, fewer than the 13"):
        list(windows(frames, 13))


def test_no_window_reaches_over_a_gap():
    numbers = [0, 1, 2, 3, 6, 7, 9, 10, 11]  # 6 and 7 are too few
    found = list(windows([Frame(number, FRAMES[number]) for number in numbers], 3))
    assert [number for number, _ in found] == [0, 1, 2, 3, 9, 10, 11]
    for number, window in found:
        last = max(number, 11 if number > 8 else 2)
        np.testing.assert_array_equal(window, FRAMES[last - 2 : last + 1])
    with pytest.raises(NearfarError, match="1 frames in a row"):
        list(windows([Frame(number, FRAMES[number]) for number in (0, 2, 4, 6)], 3))


@pytest.mark.parametrize(
    ("size", "patch", "stride"), [((240, 360), 30, 30), ((33, 50), 16, 5), ((9, 9), 9, 4)]
)
def test_patches_cover_every_pixel_and_are_where_the_grid_says(size, patch, stride):
    grid = Grid(size, patch, stride)
    frames = GENERATOR.integers(0, 256, (2, *size), dtype=np.uint8)
    cut = grid.cut(frames)
    covered = np.zeros(size, bool)
    for number, (top, left) in enumerate(itertools.product(grid.tops, grid.lefts)):
        here = np.s_[:, top : top + patch, left : left + patch]
        covered[here[1:]] = True
        np.testing.assert_array_equal(cut[number], frames[here])
        np.testing.assert_array_equal(grid.cut(frames, np.array([number]))[0], frames[here])
    assert covered.all()
    means = cut[:, 0].mean((1, 2)).reshape(grid.shape)
    np.testing.assert_allclose(grid.means(frames[0].astype(np.float32)), means, rtol=1e-5)


def test_a_heat_map_gives_each_pixel_the_score_of_its_patch():
    grid = Grid((60, 90), 30, 30)
    scores = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(grid.spread(scores), np.kron(scores, np.ones((30, 30))))


def test_all_patches_are_gathered_or_a_fair_sample(tmp_path):
    clips = open_clips(write_frames(tmp_path / "clip"))
    everything = gather_patches(clips, 16, 16, 2, name="all")
    assert everything.shape == (2, 16, 16)
    assert len(everything) == 12 * 6
    some = gather_patches(clips, 16, 16, 2, name="some", most_bytes=20 * 512)
    assert len(some) == 20
    last = {patch.numpy().tobytes() for patch in list(everything)[-24:]}
    late = [
        sum(
            patch.numpy().tobytes() in last
            for patch in gather_patches(clips, 16, 16, 2, name="s", seed=s, most_bytes=20 * 512)
        )
        for s in range(30)
    ]
    assert np.mean(late) == pytest.approx(20 * 24 / 72, abs=1)
    known = {patch.numpy().tobytes() for patch in everything}
    drawn = [patch.numpy().tobytes() for patch in some]
    assert set(drawn) <= known


def test_frames_smaller_than_a_patch_are_refused():
    with pytest.raises(NearfarError, match="20x20 pixels are smaller"):
        Grid((20, 20), 30, 30)
