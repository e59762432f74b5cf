"""Findings on photographs with planted copies, wrong labels and leaks."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from pyarrow import parquet
from sklearn.preprocessing import normalize
from torch.overrides import TorchFunctionMode

from nearfar.curation import (
    CuratedImages,
    count_mirrored,
    curate,
    default_encoder,
    find_duplicates,
    find_label_errors,
    find_outliers,
    group_duplicates,
    select,
    selection,
    thumbnails,
)
from nearfar.curation.alignment import verify_pairs
from nearfar.data import ArrayImages, FolderImages
from nearfar.errors import NearfarError
from nearfar.report import write_curation_page
from program import run


def marked(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).rectangle((8, 160, 100, 184), fill="white")
    return image


ALTERATIONS = {
    "resized": lambda image: image.resize((160, 133)),
    "square": lambda image: image.crop((20, 0, 220, 200)),
    "cropped": lambda image: image.crop((12, 4, 228, 184)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "padded": lambda image: ImageOps.expand(image, 20, "black"),
    "rotated": lambda image: image.rotate(2, resample=Image.Resampling.BICUBIC),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "gray": lambda image: image.convert("L"),
    "marked": marked,
}


def scene(rng: np.random.Generator) -> Image.Image:
    """Return a picture of random shapes on a slope of gray, 240×200."""
    slope = np.linspace(*rng.integers(40, 200, 2), 240)
    image = Image.fromarray(np.tile(slope, (200, 1)).astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for _ in range(150):
        x, y, width, height = rng.integers(0, 240), rng.integers(0, 200), *rng.integers(8, 60, 2)
        color = tuple(rng.integers(0, 256, 3).tolist())
        kind = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        kind((x, y, x + width, y + height), fill=color)
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """40 scenes; of the first four, there are altered copies; of the fifth, the same again."""
    root, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    root.mkdir()
    for number in range(40):
        image = scene(rng)
        image.save(root / f"{number:02}.png")
        if number < 4:
            for name, alter in ALTERATIONS.items():
                alter(image).save(root / f"{number:02}-{name}.jpg", quality=50)
        if number == 4:
            image.save(root / "04-again.png", optimize=True)
    return root


@pytest.fixture(scope="module")
def photos(folder) -> FolderImages:
    return FolderImages(folder, size=64)


@pytest.fixture(scope="module")
def curation(photos, folder):
    return curate(photos, default_encoder(network=False), count=5, device="cpu")


def test_copies_are_found_and_others_are_not(curation, photos):
    origin = np.array([name[:2] for name in photos.files])
    group = curation.group
    for number in range(5):
        members = origin == f"{number:02}"
        assert len(set(group[members])) == 1, photos.files
        assert group[members][0] >= 0
    assert (group[origin >= "05"] == -1).all()
    assert len(set(group)) == 6


def test_exact_means_equal_pixels_and_the_largest_is_kept(curation, photos):
    exact = curation.duplicates.pairs[curation.duplicates.exact]
    assert [[photos.files[row] for row in pair] for pair in exact] == [["04-again.png", "04.png"]]
    kept = {photos.files[row] for row in curation.kept}
    assert "00-padded.jpg" in kept  # has more pixels
    assert "04-again.png" in kept
    assert len(kept) == 40


def test_mirror_images_count_if_asked_for(photos):
    pixels = photos.batch([photos.files.index(f"{number}.png") for number in (10, 20)])
    images = ArrayImages(torch.cat([pixels, pixels[1:].flip(3)]).numpy())
    sources = [(images, row) for row in range(3)]
    small = thumbnails(images)
    assert not len(find_duplicates(small, sources).pairs)
    assert count_mirrored(small) == (2, 3)
    assert count_mirrored(thumbnails(photos)) == (0, len(photos))
    found = find_duplicates(small, sources, mirrored=True)
    assert found.pairs.tolist() == [[1, 2]]
    assert found.mirrored.all()


def test_images_that_differ_at_their_ends_are_no_duplicates(tmp_path, capsys):
    """Only the centers of long images are encoded; all of them is compared and shown."""
    rng = np.random.default_rng(2)
    middle = scene(rng)
    for number in range(30):
        ends = ImageOps.mirror(scene(rng)), scene(rng)
        image = Image.new("RGB", (480, 200))
        for x, part in zip((0, 120, 360), (ends[0], middle, ends[1]), strict=True):
            image.paste(part, (x, 0))
        image.save(tmp_path / f"{number:02}.png")
    images = FolderImages(tmp_path, size=64)
    assert images.batch([0]).eq(images.batch([1])).all()
    found = curate(images, default_encoder(network=False), device="cpu")
    assert not len(found.duplicates.pairs)
    page = write_curation_page(tmp_path / "out", found).read_text()
    shown = base64.b64decode(re.search(r'<figure><img alt="" src="[^,]*,([^"]*)"', page).group(1))
    assert Image.open(io.BytesIO(shown)).size == (96, 40)


def test_blank_images_are_no_near_duplicates():
    noise = np.random.default_rng(0).integers(0, 2, (4, 1, 64, 64))
    images = ArrayImages((200 + noise).astype(np.uint8))
    found = find_duplicates(thumbnails(images), [(images, row) for row in range(4)])
    assert not len(found.pairs)


def test_groups_are_connected_pairs(curation):
    group = group_duplicates(curation.duplicates, len(curation.images))
    first, second = curation.duplicates.pairs.T
    np.testing.assert_array_equal(group[first], group[second])


def test_leaks_are_pairs_with_the_others(photos, folder, tmp_path):
    (tmp_path / "test").mkdir()
    Image.open(folder / "07.png").resize((180, 150)).save(tmp_path / "test" / "x.png")
    scene(np.random.default_rng(9)).save(tmp_path / "test" / "y.png")
    against = FolderImages(tmp_path / "test", size=64)
    found = curate(photos, default_encoder(network=False), against=against, device="cpu")
    assert found.leaks is not None
    assert found.leaks.pairs.tolist() == [[photos.files.index("07.png"), 0]]
    assert len(found.duplicates.pairs)


def test_new_images_are_compared_with_earlier_results(folder, tmp_path, capsys):
    """Of a chain of calls, each with images of its own; earlier ones are not read again."""
    rng = np.random.default_rng(5)
    for number in range(3):
        (tmp_path / f"photos{number}").mkdir()
        for row in range(6):
            scene(rng).save(tmp_path / f"photos{number}" / f"{number}{row}.png")
    Image.open(tmp_path / "photos0/03.png").resize((180, 150)).save(tmp_path / "photos1/a.png")
    Image.open(tmp_path / "photos0/04.png").resize((180, 150)).save(tmp_path / "photos2/b.png")
    Image.open(tmp_path / "photos1/15.png").save(tmp_path / "photos2/c.png")
    model = ("--encoder", "timm:resnet18", "--weights", "random", "--size", 64, "--device", "cpu")
    earlier = ()
    for number in range(3):
        photos, out = tmp_path / f"photos{number}", tmp_path / f"out{number}"
        assert run("curate", photos, "--out", out, *model, *earlier) == 0
        shutil.rmtree(photos)
        earlier = ("--against", out)
    pairs = {
        number: sorted(
            (row["file"], row["other"])
            for row in parquet.read_table(tmp_path / f"out{number}/leaks.parquet").to_pylist()
        )
        for number in (1, 2)
    }
    assert pairs == {1: [("a.png", "03.png")], 2: [("b.png", "04.png"), ("c.png", "15.png")]}
    assert "03.png" in (tmp_path / "out1/curation.html").read_text()
    (tmp_path / "out2/thumbnails.parquet").write_bytes(b"damaged")
    with pytest.raises(NearfarError, match="expected the folder of an earlier curate"):
        CuratedImages(tmp_path / "out2")


def test_duplicates_are_verified_by_one_thread():
    """Two threads are slower, many times on a busy machine."""

    class Threads(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.linalg.solve:
                seen.append(torch.get_num_threads())
            return function(*args, **(kwargs or {}))

    seen: list[int] = []
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Threads():
            pairs, sizes = torch.tensor([[0, 1]]), torch.full((2, 2), 64)
            verify_pairs(images, sizes, pairs, torch.tensor([False]))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_label_errors_are_those_planted():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 50)
    points = (rng.normal(0, 1, (200, 8)) + 4 * np.eye(4, 8)[labels]).astype(np.float32)
    wrong = rng.choice(200, 10, replace=False)
    given = labels.copy()
    given[wrong] = (labels[wrong] + 1) % 4
    errors = find_label_errors(points, given)
    assert not isinstance(errors, str)
    assert set(np.argsort(errors.confidence)[:10]) == set(wrong)
    np.testing.assert_array_equal(errors.suggested[wrong], labels[wrong])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.zeros(60, int), "all images have the same label"),
        (np.arange(60) == 3, "has 1 images"),
        (np.arange(60) % 2, "too weak"),
    ],
)
def test_label_errors_say_why_there_are_none(labels, says):
    points = np.random.default_rng(0).normal(0, 1, (60, 4)).astype(np.float32)
    assert says in find_label_errors(points, labels.astype(np.int64))


def test_class_that_is_too_small_for_label_errors_is_named():
    points = np.random.default_rng(0).normal(0, 1, (60, 4)).astype(np.float32)
    labels = (np.arange(60) < 3).astype(np.int64)
    says = find_label_errors(points, labels, classes=["cat", "dog"])
    assert says == "class 'dog' has 3 images: expected at least 5 per class to find label errors"


def test_outliers_of_equal_images_cannot_be_told():
    assert "same embedding" in find_outliers(np.ones((50, 3), np.float32))


def test_selection_covers_the_clusters():
    rng = np.random.default_rng(0)
    points = np.concatenate([np.eye(5, 9)[[k]] + rng.normal(0, 0.01, (20, 9)) for k in range(5)])
    rows = select(points.astype(np.float32), 5)
    assert sorted(rows // 20) == [0, 1, 2, 3, 4]
    with pytest.raises(NearfarError, match="select=101 of 100 images"):
        select(points.astype(np.float32), 101)


def test_selection_is_greedy_facility_location():
    points = normalize(np.random.default_rng(1).normal(size=(90, 4))).astype(np.float32)
    similarity, chosen = points @ points.T, []
    for _ in range(30):
        means = [similarity[[*chosen, row]].max(0).mean() for row in range(len(points))]
        chosen.append(int(np.argmax(means)))
    np.testing.assert_array_equal(select(points, 30), chosen)
    np.testing.assert_array_equal(select(points, 5), chosen[:5])


def test_selection_of_equal_images_has_no_repetitions():
    assert len(set(select(np.ones((8, 3), np.float32), 6))) == 6


def test_selection_from_many_images_is_one_of_a_sample(monkeypatch):
    monkeypatch.setattr(selection, "_REPRESENTED", 50)
    points = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    rows = select(points, 20)
    assert len(set(rows)) == 20
    assert max(rows) >= 50
    np.testing.assert_array_equal(rows, select(points, 20))
    assert len(set(select(points, 300))) == 300


def test_command_writes_lists_and_a_page(folder, tmp_path, capsys):
    out = tmp_path / "curation"
    assert run("curate", folder, "--out", out, "--select", 7, "--size", 32) == 2
    assert "--size need --encoder" in capsys.readouterr().err
    command = ("curate", folder, "--out", out, "--select", 7, "--device", "cpu")
    model = ("--encoder", "timm:resnet18", "--weights", "random", "--size", 64)
    assert run(*command, *model, "--against", folder) == 0
    said = capsys.readouterr().out
    assert "duplicates: 5 groups" in said
    assert "label errors: not looked for (no classes: expected a folder for each)" in said
    rows = parquet.read_table(out / "images.parquet").to_pylist()
    assert len(rows) == len(list(folder.iterdir()))
    assert sum(row["keep"] for row in rows) == 40
    assert {row["reason"] for row in rows if row["file"] == "04.png"} == {
        "duplicate of 04-again.png"
    }
    assert sorted(row["selected"] for row in rows if row["selected"]) == list(range(1, 8))
    summary = json.loads((out / "curation.json").read_text())
    assert summary["leaks"]["pairs"] >= len(rows)
    left_out = (out / "leave-out.txt").read_text().splitlines()
    assert left_out == [row["file"] for row in rows if not row["keep"]]
    assert "the images to leave out are listed in" in said
    page = (out / "curation.html").read_text()
    assert "02-rotated.jpg" in page
    assert "duplicate to keep" in page
    assert "Not looked for (no classes: expected a folder for each)." in page
    assert 'src="http' not in page
    stored = tmp_path / "photos.parquet"
    assert run("encode", model[1], folder, *model[2:], "--out", stored, "--device", "cpu") == 0
    assert run("curate", folder, "--encoder", stored, "--out", tmp_path / "stored") == 0
    assert f"encoder timm:resnet18 (random), from {stored}" in capsys.readouterr().out
    assert run(*command, *model) == 2
    assert "exists already" in capsys.readouterr().err
