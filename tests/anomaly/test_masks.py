"""Masks by order and by name, from any kind of image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from nearfar.anomaly import Masks, find_masks, open_clips
from nearfar.anomaly.masks import VolumeMasks
from nearfar.errors import NearfarError

SHAPE = (24, 32)
KNOWN = np.zeros(SHAPE, bool)
KNOWN[5:11, 7:20] = True


def write(path: Path, image: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def write_image(path: Path) -> Path:
    return write(path, np.full(SHAPE, 90, np.uint8))


def with_palette() -> Image.Image:
    image = Image.fromarray(KNOWN.astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 200, 0, 0])
    return image


def with_transparency() -> Image.Image:
    image = Image.new("RGBA", SHAPE[::-1], (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (7, 5, 20, 11))
    return image


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("a.png", KNOWN),
        ("a.png", KNOWN.astype(np.uint8)),
        ("a.bmp", KNOWN.astype(np.uint8) * 255),
        ("a.png", KNOWN.astype(np.uint16)),
        ("a.png", with_palette()),
        ("a.png", with_transparency()),
        ("a.jpg", KNOWN.astype(np.uint8) * 255),
    ],
    ids=["1 bit", "label 1", "white", "16 bits", "palette", "transparent", "jpeg"],
)
def test_masks_mark_pixels_that_are_not_black(tmp_path, name, image):
    options = {"quality": 60} if name.endswith("jpg") else {}
    masks = Masks([write(tmp_path / name, image, **options)])
    found = masks.mask(0, "clip", SHAPE)
    assert (found != KNOWN).mean() < (0.02 if options else 1e-9)


def test_masks_scale_by_area(tmp_path):
    large = np.zeros((900, 900), np.uint8)
    large[450:460, 450:460] = 255
    masks = Masks([write(tmp_path / "a.png", large)], (90, 90))
    assert masks.mask(0, "clip", (90, 90)).sum() == 1


def test_find_masks_prefers_names_to_order(tmp_path):
    for name in ("a_10", "a_9", "b"):
        write_image(tmp_path / "new" / f"{name}.png")
    for name in ("a_10_mask.png", "a_9.png", "b.bmp"):
        write(tmp_path / "masks" / name, KNOWN if "10" in name else ~KNOWN)
    clips = open_clips(tmp_path / "new")
    (masks,) = find_masks(clips, tmp_path / "masks")
    assert [clips[0].file_name(n) for n in range(3)] == ["a_9.png", "a_10.png", "b.png"]
    assert [masks.mask(n, "new", SHAPE)[0, 0] for n in range(3)] == [True, False, True]


def test_find_masks_in_the_layout_of_mvtec(tmp_path):
    for kind in ("broken", "good"):
        for name in ("000", "001"):
            write_image(tmp_path / "test" / kind / f"{name}.png")
    for name in ("000", "001"):
        write(tmp_path / "ground_truth" / "broken" / f"{name}_mask.png", KNOWN)
    clips = open_clips(tmp_path / "test")
    broken, good = find_masks(clips, tmp_path / "ground_truth")
    np.testing.assert_array_equal(broken.mask(1, "broken", SHAPE), KNOWN)
    assert not good.mask(1, "good", SHAPE).any()


def test_find_masks_uses_unescaped_folder_names(tmp_path):
    hidden = "tw\u200bo"  # messages show it escaped
    for name in ("one", hidden):
        write_image(tmp_path / "new" / name / "a.png")
    write(tmp_path / "masks" / hidden / "a.png", KNOWN)
    one, two = find_masks(open_clips(tmp_path / "new"), tmp_path / "masks")
    assert not one.mask(0, "one", SHAPE).any()
    np.testing.assert_array_equal(two.mask(0, "two", SHAPE), KNOWN)


def test_find_masks_refuses_masks_of_no_clip(tmp_path):
    for name in ("one", "two"):
        write_image(tmp_path / "new" / name / "a.png")
    for name in ("one", "tow"):
        write(tmp_path / "masks" / name / "a.png", KNOWN)
    with pytest.raises(
        NearfarError, match="holds 'tow', which is not a clip, and nothing for 'two'"
    ):
        find_masks(open_clips(tmp_path / "new"), tmp_path / "masks")


def test_find_masks_in_order_for_equal_stems(tmp_path):
    for name in ("a.jpg", "a.png"):
        write_image(tmp_path / "new" / name)
    write(tmp_path / "masks" / "a.bmp", KNOWN)
    write(tmp_path / "masks" / "a.png", ~KNOWN)
    (masks,) = find_masks(open_clips(tmp_path / "new"), tmp_path / "masks")
    assert [masks.mask(number, "new", SHAPE)[0, 0] for number in range(2)] == [False, True]


def too_few(folder: Path) -> None:
    write(folder / "x.png", KNOWN)


def damaged(folder: Path) -> None:
    for name in ("a", "b"):
        write(folder / f"{name}.png", KNOWN)
    (folder / "b.png").write_bytes(b"no")


def of_two_sizes(folder: Path) -> None:
    write(folder / "a.png", KNOWN)
    write(folder / "b.png", KNOWN[:10])


def of_other_names(folder: Path) -> None:
    for name in ("x", "y"):
        write(folder / f"{name}.png", KNOWN)


def shifted_by_one(folder: Path) -> None:
    for name in ("b", "c"):
        write(folder / f"{name}.png", KNOWN)


def none(folder: Path) -> None:
    folder.mkdir()


def for_another_clip(folder: Path) -> None:
    write(folder / "elsewhere" / "x.png", KNOWN)


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (too_few, "1 masks, 'new' 2 frames"),
        (of_other_names, "no mask for 'a.png', 'b.png' and no frame for 'x.png', 'y.png'"),
        (shifted_by_one, "2 masks, 'new' 2 frames: no mask for 'a.png' and no frame for 'c.png'"),
        (damaged, "b.png' cannot be read"),
        (of_two_sizes, "b.png' is 10x32 pixels, the masks before it 24x32"),
        (none, "holds no masks"),
        (for_another_clip, "holds no masks"),
        (lambda folder: None, "does not exist"),
    ],
)
def test_find_masks_names_a_mistake_in_one_line(tmp_path, make, culprit):
    for name in ("a", "b"):
        write_image(tmp_path / "new" / f"{name}.png")
    make(tmp_path / "masks")
    with pytest.raises(NearfarError) as error:
        find_masks(open_clips(tmp_path / "new"), tmp_path / "masks")
    assert culprit in str(error.value)
    assert "\n" not in str(error.value)


def test_masks_keep_thin_regions_when_scaled(tmp_path):
    for row in range(0, 96, 5):
        mask = np.zeros((96, 128), np.uint8)
        mask[row : row + 2] = 255
        found = Masks([write(tmp_path / f"{row}.png", mask)], SHAPE).mask(0, "clip", SHAPE)
        assert found[row // 4].all()
        assert found.any(1).sum() <= 2


def test_masks_refuse_frames_of_another_size(tmp_path):
    masks = Masks([write(tmp_path / "a.png", KNOWN)])
    with pytest.raises(NearfarError, match=r"'cam' has frame 0 of shape \(8, 8\)"):
        masks.mask(0, "cam", (8, 8))
    with pytest.raises(NearfarError, match="frame 1"):
        masks.mask(1, "cam", SHAPE)


def volume(masks: list[np.ndarray]) -> dict[str, np.ndarray]:
    cells = np.empty((1, len(masks)), object)
    cells[0] = masks
    return {"volLabel": cells}


def test_masks_in_the_layout_of_avenue(tmp_path):
    clips = [tmp_path / "videos" / name for name in ("1", "2")]
    for clip in clips:
        for number in range(3):
            write(clip / f"{number}.png", np.zeros((16, 24), np.uint8))
    masks = [np.zeros((16, 24), np.uint8) for _ in range(3)]
    masks[1][4:8, 5:9] = 1
    labels = tmp_path / "labels"
    labels.mkdir()
    for clip in clips:
        savemat(labels / f"{clip.name}_label.mat", volume(masks))
    found = find_masks(open_clips(tmp_path / "videos"), labels)
    for number in range(3):
        np.testing.assert_array_equal(found[1].mask(number, "2", (16, 24)), masks[number])
    halved = find_masks(open_clips(tmp_path / "videos", size=(8, 12)), labels, (8, 12))
    assert halved[0].mask(1, "1", (8, 12)).sum() == 2 * 3
    with pytest.raises(NearfarError, match="4 frames and 3 masks|frame 3 of shape"):
        found[0].mask(3, "1", (16, 24))
    with pytest.raises(NearfarError, match="2 frames and 3 masks"):
        found[0].check_end(1, "1")


def test_other_files_beside_masks_are_no_masks(tmp_path):
    clips = [tmp_path / "videos" / name for name in ("good", "1")]
    for clip in clips:
        write(clip / "0.png", np.zeros((16, 24), np.uint8))
    masks = tmp_path / "masks"
    write(masks / "1" / "0.png", np.zeros((16, 24), np.uint8))
    (masks / "README.txt").write_text("notes")
    (masks / "good").write_text("no folder")
    normal = find_masks(open_clips(tmp_path / "videos"), masks)[1]
    assert not normal.mask(0, "good", (16, 24)).any()
    (masks / "1" / "0.png").unlink()
    (masks / "1").rmdir()
    with pytest.raises(NearfarError, match="holds no masks"):
        find_masks(open_clips(tmp_path / "videos"), masks)


@pytest.mark.parametrize(
    "content",
    [
        {"other": np.zeros(3)},
        {"volLabel": np.zeros(3)},
        volume([np.zeros((16, 24)), np.zeros((8, 24)), np.zeros((16, 24))]),
        b"damaged",
    ],
)
def test_damaged_files_of_avenue_are_rejected_in_one_line(tmp_path, content):
    file = tmp_path / "1_label.mat"
    file.write_bytes(content) if isinstance(content, bytes) else savemat(file, content)
    with pytest.raises(NearfarError, match="expected a MATLAB file with 'volLabel'") as caught:
        VolumeMasks(file)
    assert "\n" not in str(caught.value)
