"""Cells of masks of abnormal pixels."""

from __future__ import annotations

import shutil
import unicodedata
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

from nearfar.anomaly import Masks, find_masks, open_clips
from readers.support import rejection, warned
from readers.table import cell
from readers.targets_anomaly import SHAPE, some_frames, write_frames, write_video

KNOWN = some_frames()[0] == 220


def save(path: Path, image: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def read(path: Path) -> np.ndarray:
    masks = Masks([path])
    assert masks.shape is not None
    return masks.mask(0, "clip", masks.shape)


@cell(
    "masks", "orientation", "obeyed: EXIF; rejected if only the frame has it and sizes do not tell"
)
def _(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = Image.fromarray(KNOWN.astype(np.uint8) * 255)
    turned = save(folder / "a.png", mask.transpose(Image.Transpose.ROTATE_90), exif=exif)
    np.testing.assert_array_equal(read(turned), KNOWN)
    for number, marked in ((3, False), (6, False), (6, True)):
        exif[0x0112] = number
        place = folder / f"{number} {marked}"
        frame = np.full((32, 32) if number == 6 else SHAPE, 90, np.uint8)
        save(place / "new" / "0.jpg", frame, exif=exif)
        save(place / "masks" / "0.png", frame, **({"exif": exif} if marked else {}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # all is abnormal
            with nullcontext() if marked else rejection("before or after the EXIF orientation"):
                find_masks(open_clips(place / "new"), place / "masks")


@cell("masks", "size", "obeyed: scaled with the frames; rejected if not that of the frames")
def _(folder: Path) -> None:
    write_frames(folder / "new", some_frames(1))
    clips = open_clips(folder / "new")
    save(folder / "masks" / "0.png", KNOWN[:20])
    (masks,) = find_masks(clips, folder / "masks")
    with rejection("expected one mask of the same shape per frame"):
        masks.mask(0, "new", SHAPE)
    with rejection("is 20x40 pixels, its frame 32x40"):
        find_masks(open_clips(folder / "new", size=16), folder / "masks", 16)
    save(folder / "masks" / "0.png", KNOWN.repeat(2, 0).repeat(2, 1))
    (masks,) = find_masks(open_clips(folder / "new", size=16), folder / "masks", 16)
    assert masks.mask(0, "new", (16, 16)).any()


@cell("masks", "range", "obeyed: any value but 0 is abnormal; rejected: negative values")
def _(folder: Path) -> None:
    for value in (1, 7, 255):
        found = read(save(folder / "a.png", KNOWN.astype(np.uint8) * np.uint8(value)))
        np.testing.assert_array_equal(found, KNOWN)
    with rejection("negative"):
        read(save(folder / "b.tif", -KNOWN.astype(np.int32)))


@cell("masks", "depth", "obeyed: 1, 8, 16, 32 bits and floats")
def _(folder: Path) -> None:
    for kind in (bool, np.uint8, np.uint16, np.int32, np.float32):
        np.testing.assert_array_equal(read(save(folder / "a.tif", KNOWN.astype(kind))), KNOWN)


@cell(
    "masks", "white point", "obeyed: values of palettes; half of white in a JPEG; warned if most is"
)
def _(folder: Path) -> None:
    image = Image.fromarray(KNOWN.astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    np.testing.assert_array_equal(read(save(folder / "a.png", image)), KNOWN)
    jpeg = read(save(folder / "a.jpg", KNOWN.astype(np.uint8) * 255, quality=60))
    assert (jpeg != KNOWN).mean() < 0.05
    webp = read(save(folder / "a.webp", KNOWN.astype(np.uint8) * 255, quality=60))
    assert (webp != KNOWN).mean() < 0.05
    for extension in ("jpg", "webp"):
        with rejection("in a lossy format"):
            read(save(folder / f"b.{extension}", np.ones(SHAPE, np.uint8)))
    with warned("of the pixels of all masks are abnormal", "invert the masks"):
        read(save(folder / "inverted.png", ~KNOWN))


@cell("masks", "channels", "obeyed: abnormal in any channel")
def _(folder: Path) -> None:
    colors = np.zeros((*SHAPE, 3), np.uint8)
    colors[..., 2] = KNOWN * 9
    np.testing.assert_array_equal(read(save(folder / "a.png", colors)), KNOWN)


@cell("masks", "transparency", "ignored: the colors count; rejected if only it varies")
def _(folder: Path) -> None:
    colors = np.zeros((*SHAPE, 4), np.uint8)
    colors[..., 0] = KNOWN * 255
    for alpha in (0, 255):
        colors[..., 3] = alpha
        np.testing.assert_array_equal(read(save(folder / "a.png", colors)), KNOWN)
    with rejection("only its transparency varies"):
        read(
            save(folder / "b.png", np.dstack([np.full((*SHAPE, 3), 255), 255 * KNOWN]).astype("u1"))
        )


@cell("masks", "profile", "ignored: zero stays zero")
def _(folder: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = save(folder / "a.png", KNOWN.astype(np.uint8), icc_profile=profile)
    np.testing.assert_array_equal(read(path), KNOWN)


@cell("masks", "count", "rejected: several images in a file; not one mask per frame")
def _(folder: Path) -> None:
    page = Image.new("L", (8, 8))
    for name in ("a.tif", "a.gif"):
        save(folder / name, page, save_all=True, append_images=[Image.new("L", (8, 8), 9)])
        with rejection("2 images in one file"):
            read(folder / name)
    write_frames(folder / "new", some_frames(3))
    write_frames(folder / "masks", some_frames(2))
    with rejection("2 masks, 'new' 3 frames", "no mask for '2.png'"):
        find_masks(open_clips(folder / "new"), folder / "masks")


@cell("masks", "time", "none")
def _(folder: Path) -> None:
    assert not Masks(None).mask(99, "clip", SHAPE).any()


@cell("masks", "rate", "none")
def _(folder: Path) -> None:
    assert not Masks(None).mask(99, "clip", SHAPE).any()


@cell("masks", "order", "ignored for images; obeyed for videos: numbered from 0 or 1 without gaps")
def _(folder: Path) -> None:
    video = write_video(folder / "a.mp4", some_frames(12), "libx264")
    masks = write_frames(folder / "masks", some_frames(12) // 220 * 255)
    (found,) = find_masks(open_clips(video), masks)
    np.testing.assert_array_equal(found.mask(10, "a", SHAPE), some_frames(12)[10] == 220)
    (masks / "5.png").rename(masks / "12.png")
    with rejection("there is no 5", "frames of 'a.mp4' have no names"):
        find_masks(open_clips(video), masks)


@cell(
    "masks",
    "pairing",
    "obeyed: by name, or all by number; rejected if one is alone; warned: clips without masks",
)
def _(folder: Path) -> None:
    write_frames(folder / "new", some_frames(12))
    for number, pixels in enumerate(some_frames(12)):
        save(folder / "masks" / f"frame{number:03}_mask.png", (pixels == 220))
    clips = open_clips(folder / "new")
    (found,) = find_masks(clips, folder / "masks")
    np.testing.assert_array_equal(found.mask(10, "new", SHAPE), some_frames(12)[10] == 220)
    (folder / "new" / "2.png").unlink()
    (folder / "masks" / "frame006_mask.png").unlink()
    with rejection("no mask for '6.png'", "no frame for 'frame002_mask.png'"):
        find_masks(open_clips(folder / "new"), folder / "masks")
    for name in ("bad", "good", "worse"):
        write_frames(folder / "test" / name, some_frames(2))
    write_frames(folder / "truth" / "bad", (some_frames(2) == 220).astype(np.uint8))
    with warned("no masks of 1 of 3 clips (first 'worse')"):
        find_masks(open_clips(folder / "test"), folder / "truth")


@cell(
    "masks",
    "names",
    "obeyed: NAME, NAME_mask, NAME_gt; both Unicode forms; rejected: ambiguous ones",
)
def _(folder: Path) -> None:
    names = "Gerät", "b", "c", "d"
    for name in names:
        save(folder / "new" / f"{unicodedata.normalize('NFD', name)}.png", some_frames(1)[0])
    for name, suffix in zip(names, ("", "_mask", "_gt", ".png"), strict=True):
        save(folder / "masks" / f"{unicodedata.normalize('NFC', name)}{suffix}.bmp", KNOWN)
    clips = open_clips(folder / "new")
    (found,) = find_masks(clips, folder / "masks")
    assert found.mask(3, "new", SHAPE).any()
    shutil.copy(folder / "masks" / "b_mask.bmp", folder / "masks" / "b_gt.bmp")
    with rejection("no mask for 'b.png'"):
        find_masks(clips, folder / "masks")


@cell("masks", "encoding", "obeyed: both byte orders")
def _(folder: Path) -> None:
    for order in "<>":
        values = KNOWN.astype(f"{order}u2")
        image = Image.frombytes("I;16B" if order == ">" else "I;16", SHAPE[::-1], values.tobytes())
        np.testing.assert_array_equal(read(save(folder / "a.tif", image)), KNOWN)


@cell("masks", "root", "rejected: no image")
def _(folder: Path) -> None:
    (folder / "a.png").write_text("no image")
    with rejection("a.png", "cannot be read"):
        read(folder / "a.png")


@cell("masks", "length", "rejected: empty or damaged files, empty folders")
def _(folder: Path) -> None:
    path = save(folder / "a.png", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    for data in (b"", path.read_bytes()[:500]):
        path.write_bytes(data)
        with rejection("a.png", "cannot be read"):
            read(path)
    write_frames(folder / "new", some_frames(1))
    (folder / "masks").mkdir()
    with rejection("holds no masks"):
        find_masks(open_clips(folder / "new"), folder / "masks")


@cell("masks", "nan", "rejected")
def _(folder: Path) -> None:
    values = np.zeros((8, 8), np.float32)
    for bad in (np.nan, np.inf):
        values[0, 0] = bad
        with rejection("NaN or infinite"):
            read(save(folder / "a.tif", values))


@cell("masks", "unused", "rejected: masks of no frame, or of no clip")
def _(folder: Path) -> None:
    for name in ("one", "two"):
        write_frames(folder / "new" / name, some_frames(2))
    for name in ("one", "tow"):
        write_frames(folder / "masks" / name, some_frames(2))
    with rejection("holds 'tow', which is not a clip, and nothing for 'two'"):
        find_masks(open_clips(folder / "new"), folder / "masks")
    write_frames(folder / "more", some_frames(3))
    with rejection("no frame for '2.png'"):
        find_masks(open_clips(folder / "new" / "one"), folder / "more")
