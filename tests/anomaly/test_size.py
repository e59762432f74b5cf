"""Nothing goes unseen: images, frames and masks are scaled without cropping."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clips import QUICK
from nearfar.anomaly import (
    DetectorConfig,
    Masks,
    find_masks,
    fit_detector,
    open_clips,
    score_clips,
)
from nearfar.errors import NearfarError


def tile(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).normal(120, 12, (103, 289)).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("box", [(279, 0, 289, 103), (0, 0, 10, 103), (0, 0, 289, 6)])
def test_block_on_the_end_of_a_long_tile_changes_the_score(tmp_path, box):
    (tmp_path / "good").mkdir()
    (tmp_path / "new").mkdir()
    for number in range(12):
        tile(number).save(tmp_path / "good" / f"{number}.png")
    tile(99).save(tmp_path / "new" / "a.png")
    painted = tile(99)
    painted.paste(255, box)
    painted.save(tmp_path / "new" / "b.png")
    size = (64, 64)
    config = DetectorConfig.stills(size=size)
    clips = open_clips(tmp_path / "good", size=size)
    detector = fit_detector(clips, tmp_path / "run", config, QUICK)
    (clip,) = open_clips(tmp_path / "new", size=size)
    plain, block = (scored.score for scored in detector.score(clip))
    assert block > 1.2 * plain


@pytest.mark.parametrize("extension", ["png", "jpg"])
@pytest.mark.parametrize("size", [(64, 64), (206, 578), (32, 289), (50, 20)])
def test_scaled_image_shows_all_four_corners(tmp_path, extension, size):
    image = Image.new("L", (289, 103), 100)
    for box in ((0, 0, 20, 20), (269, 0, 289, 20), (0, 83, 20, 103), (269, 83, 289, 103)):
        image.paste(255, box)
    image.save(tmp_path / f"a.{extension}")
    (clip,) = open_clips(tmp_path / f"a.{extension}", size=size)
    (frame,) = clip
    assert frame.pixels.shape == size
    assert min(frame.pixels[place] for place in ((0, 0), (0, -1), (-1, 0), (-1, -1))) > 190


def test_masks_follow_their_images(tmp_path):
    mask = np.zeros((103, 289), np.uint8)
    mask[:, 280:] = 255
    (tmp_path / "new").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    tile(0).save(tmp_path / "new" / "a.png")
    (masks,) = find_masks(open_clips(tmp_path / "new", size=64), tmp_path / "masks", 64)
    found = masks.mask(0, "new", (64, 64))
    assert found[:, 62:].all()
    assert not found[:, :62].any()


def test_mask_of_another_aspect_is_refused(tmp_path):
    for name in ("new", "masks"):
        (tmp_path / name).mkdir()
    tile(0).save(tmp_path / "new" / "a.png")
    Image.new("L", (103, 289)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(NearfarError, match="is 289x103 pixels, its frame 103x289"):
        find_masks(open_clips(tmp_path / "new", size=64), tmp_path / "masks", 64)
    Image.new("L", (578, 206)).save(tmp_path / "masks" / "a.png")
    assert find_masks(open_clips(tmp_path / "new", size=64), tmp_path / "masks", 64)


def test_turned_image_and_mask_stay_together(tmp_path):
    image, exif = tile(0), Image.Exif()
    exif[0x0112] = 6
    for name in ("new", "masks"):
        (tmp_path / name).mkdir()
    image.save(tmp_path / "new" / "a.jpg", exif=exif)
    mask = Image.new("L", (289, 103))
    mask.paste(255, (0, 0, 289, 10))
    mask.save(tmp_path / "masks" / "a.png", exif=exif)
    clips = open_clips(tmp_path / "new")
    (masks,) = find_masks(clips, tmp_path / "masks")
    (frame,) = clips[0]
    assert masks.mask(0, "new", frame.pixels.shape)[:, -10:].all()


def test_masks_of_floats_and_signed_numbers(tmp_path):
    values = np.zeros((8, 8), np.float32)
    values[2, 2] = 0.5
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert Masks([tmp_path / "a.tif"]).mask(0, "a", (8, 8)).sum() == 1
    for bad, words in ((np.nan, "NaN"), (-1, "negative")):
        values[3, 3] = bad
        Image.fromarray(values).save(tmp_path / "a.tif")
        with pytest.raises(NearfarError, match=words):
            Masks([tmp_path / "a.tif"])


def test_mask_file_with_several_images_is_refused(tmp_path):
    page = Image.new("L", (8, 8))
    other = Image.new("L", (8, 8), 255)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[other])
    with pytest.raises(NearfarError, match="2 images in one file"):
        Masks([tmp_path / "a.tif"])


def test_score_clips_refuses_masks_of_other_images(fitted, tmp_path):
    from clips import scene, write_clip

    pytest.importorskip("av")
    write_clip(tmp_path / "new", scene(1, 8))
    write_clip(tmp_path / "masks", scene(1, 8))
    (tmp_path / "new" / "2.png").unlink()
    (tmp_path / "masks" / "6.png").unlink()
    from nearfar.anomaly import read_detector

    with pytest.raises(NearfarError) as error:
        score_clips(
            read_detector(fitted),
            open_clips(tmp_path / "new"),
            tmp_path / "o",
            masks=tmp_path / "masks",
        )
    assert "no mask for '6.png' and no frame for '2.png'" in str(error.value)
    assert not (tmp_path / "o").exists()
