"""Readers of the VOC layout: on real sets, on generated scenes, and on what is wrong with them."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from nearfar.errors import NearfarError
from nearfar.experiments.synthetic_voc import SHAPES, write_scenes
from nearfar.transfer.annotations import presence, read_objects
from nearfar.transfer.detection import open_scenes
from nearfar.transfer.devkit import VOC_CLASSES, Devkit
from nearfar.transfer.labeled import open_multiple
from nearfar.transfer.masks import IGNORED, read_mask
from nearfar.transfer.segmentation import open_masked


@pytest.fixture
def scenes(tmp_path) -> Devkit:
    return Devkit.open(write_scenes(tmp_path / "VOC", 8))


def refused(call, *arguments) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(NearfarError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(devkit: Devkit, old: str, new: str, name: str = "scene_0000") -> None:
    """Change the annotation of a scene."""
    text = devkit.annotation(name).read_text()
    assert old in text
    devkit.annotation(name).write_text(text.replace(old, new, 1))


# --- real sets -----------------------------------------------------------------------------------


def test_the_boxes_of_bccd(data_root):
    if not (data_root / "bccd").is_dir():
        pytest.skip(f"no {data_root / 'bccd'}")
    devkit = Devkit.open(data_root / "bccd")
    assert devkit.classes == ("Platelets", "RBC", "WBC")
    sizes = {split: len(devkit.split("Main", split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 205, "val": 87, "test": 72}
    names = devkit.split("Main", "trainval") + devkit.split("Main", "test")
    every = {name: read_objects(devkit, name) for name in names}
    counts = Counter(devkit.classes[label] for found in every.values() for label in found.labels)
    assert counts == {"Platelets": 361, "RBC": 4155, "WBC": 372}
    first = every["BloodImage_00000"]
    assert first.size == (480, 640)
    assert first.boxes[0].tolist() == [259, 176, 491, 376]
    assert devkit.classes[first.labels[0]] == "WBC"
    assert not first.difficult.any()


def test_the_classes_seen_in_bccd_are_those_of_its_boxes(data_root):
    if not (data_root / "bccd").is_dir():
        pytest.skip(f"no {data_root / 'bccd'}")
    devkit = Devkit.open(data_root / "bccd")
    names = devkit.split("Main", "val")
    seen = presence(devkit, "val", names)
    for row, name in enumerate(names):
        expected = np.isin(np.arange(3), read_objects(devkit, name).labels)
        assert ((seen[row] == 1) == expected).all()


def test_the_masks_of_camvid(data_root):
    if not (data_root / "camvid").is_dir():
        pytest.skip(f"no {data_root / 'camvid'}")
    devkit = Devkit.open(data_root / "camvid")
    assert len(devkit.mask_classes) == 11
    names = devkit.split("Segmentation", "val")
    assert len(names) == 101
    values = set()
    for name in names[::10]:
        mask = read_mask(devkit, name)
        assert mask.shape == (360, 480)
        values |= set(np.unique(mask).tolist())
    assert values == {*range(11), IGNORED}


# --- what the layout means -----------------------------------------------------------------------


def test_boxes_of_scenes_fit_their_masks(scenes):
    assert scenes.classes == SHAPES
    for name in scenes.split("Main", "train"):
        objects, mask = read_objects(scenes, name), read_mask(scenes, name)
        rows, columns = np.nonzero(mask)
        left, top = objects.boxes[:, :2].min(0)
        right, bottom = objects.boxes[:, 2:].max(0)
        assert (left, right) == (columns.min(), columns.max() + 1)
        assert (top, bottom) == (rows.min(), rows.max() + 1)


def test_without_a_class_list_the_classes_are_those_of_voc(scenes):
    (scenes.root / "classes.txt").unlink()
    devkit = Devkit.open(scenes.root)
    assert devkit.classes == VOC_CLASSES
    assert devkit.mask_classes[:2] == ("background", "aeroplane")
    assert len(devkit.mask_classes) == 21


def test_classes_seen_from_lists_and_from_boxes(scenes):
    names = ["scene_0000", "scene_0001"]
    from_boxes = presence(scenes, "train", names)
    for column, kind in enumerate(SHAPES):
        lines = [f"{name} {flag:2}" for name, flag in zip(names, (1, 0), strict=True)]
        scenes.class_list(kind, "train").write_text("\n".join(lines) + "\n")
        if column < 2:
            assert "missing" in refused(presence, scenes, "train", names)
    assert presence(scenes, "train", names).tolist() == [[1, 1, 1], [0, 0, 0]]
    assert set(np.unique(from_boxes)) <= {-1, 1}


def test_only_difficult_objects_count_neither_way(scenes):
    objects = read_objects(scenes, "scene_0000")
    alone = [label for label, n in Counter(objects.labels.tolist()).items() if n == 1]
    if not alone:
        pytest.skip("no class is seen once in this scene")
    row = objects.labels.tolist().index(alone[0])
    text = scenes.annotation("scene_0000").read_text().split("<difficult>0")
    scenes.annotation("scene_0000").write_text(
        "<difficult>0".join(text[: row + 1]) + "<difficult>1" + "<difficult>0".join(text[row + 1 :])
    )
    assert read_objects(scenes, "scene_0000").difficult[row]
    assert presence(scenes, "train", ["scene_0000"])[0, alone[0]] == 0


def test_a_box_counted_from_zero_is_cut_to_the_image(scenes):
    text = scenes.annotation("scene_0000").read_text()
    start = text.index("<xmin>") + 6
    scenes.annotation("scene_0000").write_text(text[:start] + "0" + text[text.index("</xmin>") :])
    assert read_objects(scenes, "scene_0000").boxes[0, 0] == 0


# --- what is wrong -------------------------------------------------------------------------------


def test_a_folder_that_is_no_devkit(tmp_path):
    assert "no VOC devkit" in refused(Devkit.open, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"a\nb\na\n", b"\xff\xfe\x00", b"a\0b\n", b"background\n", b"a\x1b[2J\n"]
)
def test_class_lists_that_cannot_be_used(scenes, content):
    (scenes.root / "classes.txt").write_bytes(content)
    assert "classes.txt" in refused(Devkit.open, scenes.root)


def test_splits_that_cannot_be_used(scenes):
    assert "test, train, val" in refused(scenes.split, "Main", "trainval")
    lists = scenes.root / "ImageSets" / "Main"
    (lists / "none.txt").write_text("\n")
    assert "empty" in refused(scenes.split, "Main", "none")
    (lists / "away.txt").write_text("../../etc/passwd\n")
    assert "no name" in refused(scenes.split, "Main", "away")
    (lists / "twice.txt").write_text("scene_0001\nscene_0000\nscene_0001\n")
    assert "names 'scene_0001' 2 times" in refused(scenes.split, "Main", "twice")
    (lists / "more.txt").write_text("scene_9999\n")
    assert "scene_9999.jpg' is missing" in refused(scenes.split, "Main", "more")


def test_missing_and_damaged_files(scenes):
    scenes.annotation("scene_0000").unlink()
    assert "scene_0000.xml' is missing" in refused(read_objects, scenes, "scene_0000")
    scenes.mask("scene_0000").unlink()
    assert "scene_0000.png' is missing" in refused(read_mask, scenes, "scene_0000")
    scenes.mask("scene_0001").write_bytes(b"\x89PNG")
    assert "scene_0001.png" in refused(read_mask, scenes, "scene_0001")
    scenes.image("scene_0001").write_bytes(b"")
    assert "scene_0001.jpg" in refused(read_objects, scenes, "scene_0001")


def test_images_are_decoded_before_anything_is_trained(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr("nearfar.data.arrays.IN_MEMORY_BYTES", 0)
    damaged = scenes.image("scene_0002")  # in val
    damaged.write_bytes(damaged.read_bytes()[:-500])
    for opened in (
        lambda: open_masked(scenes, "val", 64),
        lambda: open_scenes(scenes, "val", 64, tmp_path / "proposals"),
        lambda: open_multiple(scenes, "val", 64),
    ):
        assert "scene_0002.jpg' cannot be read" in refused(opened)


def test_splits_without_anything_to_learn(scenes, tmp_path):
    for name in scenes.split("Main", "val"):
        text = scenes.annotation(name).read_text()
        scenes.annotation(name).write_text(text.replace("<difficult>0", "<difficult>1"))
        Image.fromarray(np.full((96, 128), IGNORED, np.uint8)).save(scenes.mask(name))
    assert "to be ignored" in refused(open_masked, scenes, "val", 64)
    assert "only difficult" in refused(open_scenes, scenes, "val", 64, tmp_path / "proposals")
    assert "no class is seen" in refused(open_multiple, scenes, "val", 64)


BOMB = '<!DOCTYPE b [<!ENTITY a "1234567890"><!ENTITY c "&a;&a;">]><annotation>&c;</annotation>'
OUTSIDE = '<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        OUTSIDE,
        "<!DOCTYPE annotation><annotation/>",
        "<annotation>",
        "",
        "\0\0",
        '<?xml version="1.0" encoding="none"?><annotation/>',
        "<annotation>" + " " * (8 * 2**20) + "</annotation>",
    ],
)
def test_hostile_and_broken_xml(scenes, content):
    scenes.annotation("scene_0000").write_text(content)
    assert "scene_0000.xml" in refused(read_objects, scenes, "scene_0000")


@pytest.mark.parametrize(
    ("tag", "value", "says"),
    [
        ("xmax", "129", "not inside of the image of 128x96 pixels"),
        ("ymax", "97", "not inside"),
        ("xmin", "-1", "not inside"),
        ("xmax", "0", "no area"),
        ("xmax", "nan", "no area"),
        ("ymax", "inf", "not inside"),
        ("xmin", "left", "expected numbers"),
        ("xmin", "", "expected numbers"),
    ],
)
def test_boxes_that_cannot_be(scenes, tag, value, says):
    text = scenes.annotation("scene_0000").read_text()
    start, end = text.index(f"<{tag}>") + len(tag) + 2, text.index(f"</{tag}>")
    scenes.annotation("scene_0000").write_text(text[:start] + value + text[end:])
    line = refused(read_objects, scenes, "scene_0000")
    assert says in line
    assert "scene_0000.xml" in line


def test_a_box_at_zero_alone_has_no_area(scenes):
    text = scenes.annotation("scene_0000").read_text()
    for tag in ("xmin", "xmax"):
        start, end = text.index(f"<{tag}>") + 6, text.index(f"</{tag}>")
        text = text[:start] + "0" + text[end:]
    scenes.annotation("scene_0000").write_text(text)
    assert "no area" in refused(read_objects, scenes, "scene_0000")


def test_unknown_classes_are_named(scenes):
    label = SHAPES[read_objects(scenes, "scene_0000").labels[0]]
    edit(scenes, f"<name>{label}", "<name>hexagon")
    assert "'hexagon'" in refused(read_objects, scenes, "scene_0000")


def test_masks_that_cannot_be_used(scenes):
    mask = Image.open(scenes.mask("scene_0000"))
    mask.crop((0, 0, 100, 96)).save(scenes.mask("scene_0000"))
    assert "100x96 pixels: expected 128x96" in refused(read_mask, scenes, "scene_0000")
    Image.fromarray(np.full((96, 128), 4, np.uint8)).save(scenes.mask("scene_0001"))
    assert "has the value 4: expected 0…3" in refused(read_mask, scenes, "scene_0001")
    Image.new("RGB", (128, 96)).save(scenes.mask("scene_0002"))
    line = refused(read_mask, scenes, "scene_0002")
    assert line.endswith(
        "cannot be read (pixels of the kind RGB: expected 8 bits, with or without a palette)"
    )
    Image.fromarray(np.full((96, 128), IGNORED, np.uint8)).save(scenes.mask("scene_0003"))
    assert (read_mask(scenes, "scene_0003") == IGNORED).all()


@pytest.mark.parametrize("line", ["scene_0000", "scene_0000 2", "scene_0000 1 1"])
def test_lists_of_classes_that_cannot_be_used(scenes, line):
    for kind in SHAPES:
        scenes.class_list(kind, "train").write_text(line + "\n")
    assert "disc_train.txt" in refused(presence, scenes, "train", ["scene_0000"])


def test_lists_of_classes_of_other_images(scenes):
    for kind in SHAPES:
        scenes.class_list(kind, "train").write_text("scene_0001 1\n")
    assert "'scene_0000'" in refused(presence, scenes, "train", ["scene_0000"])


def test_scenes_are_the_same_every_time(scenes, tmp_path):
    again = write_scenes(tmp_path / "again", 8)
    for name in ("JPEGImages/scene_0003.jpg", "Annotations/scene_0003.xml"):
        assert (scenes.root / name).read_bytes() == (again / name).read_bytes()
    shutil.rmtree(again)
