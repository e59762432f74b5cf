"""Readers of the VOC layout: on real sets, on generated scenes, and on what is wrong with them."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from nearfar.errors import NearfarError
from nearfar.transfer import (
    IGNORE_INDEX,
    VOC_CLASSES,
    Devkit,
    open_classification_set,
    open_detection_set,
    open_segmentation_set,
    read_label_map,
    read_objects,
    read_presence,
    write_scenes,
)
from nearfar.transfer.synthetic_devkit import SHAPES


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


def test_read_objects_of_bccd(data_root):
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


def test_presence_in_bccd_agrees_with_boxes(data_root):
    if not (data_root / "bccd").is_dir():
        pytest.skip(f"no {data_root / 'bccd'}")
    devkit = Devkit.open(data_root / "bccd")
    names = devkit.split("Main", "val")
    seen = read_presence(devkit, "val", names)
    for row, name in enumerate(names):
        expected = np.isin(np.arange(3), read_objects(devkit, name).labels)
        assert ((seen[row] == 1) == expected).all()


def test_read_label_map_of_camvid(data_root):
    if not (data_root / "camvid").is_dir():
        pytest.skip(f"no {data_root / 'camvid'}")
    devkit = Devkit.open(data_root / "camvid")
    assert len(devkit.mask_classes) == 11
    names = devkit.split("Segmentation", "val")
    assert len(names) == 101
    values = set()
    for name in names[::10]:
        mask = read_label_map(devkit, name)
        assert mask.shape == (360, 480)
        values |= set(np.unique(mask).tolist())
    assert values == {*range(11), IGNORE_INDEX}


# --- what the layout means -----------------------------------------------------------------------


def test_boxes_of_synthetic_scenes_fit_label_maps(scenes):
    assert scenes.classes == SHAPES
    for name in scenes.split("Main", "train"):
        objects, mask = read_objects(scenes, name), read_label_map(scenes, name)
        rows, columns = np.nonzero(mask)
        left, top = objects.boxes[:, :2].min(0)
        right, bottom = objects.boxes[:, 2:].max(0)
        assert (left, right) == (columns.min(), columns.max() + 1)
        assert (top, bottom) == (rows.min(), rows.max() + 1)


def test_devkit_without_class_file_has_voc_classes(scenes):
    (scenes.root / "classes.txt").unlink()
    devkit = Devkit.open(scenes.root)
    assert devkit.classes == VOC_CLASSES
    assert devkit.mask_classes[:2] == ("background", "aeroplane")
    assert len(devkit.mask_classes) == 21


def test_read_presence_from_lists_and_boxes(scenes):
    names = ["scene_0000", "scene_0001"]
    from_boxes = read_presence(scenes, "train", names)
    for column, kind in enumerate(SHAPES):
        lines = [f"{name} {flag:2}" for name, flag in zip(names, (1, 0), strict=True)]
        scenes.class_list(kind, "train").write_text("\n".join(lines) + "\n")
        if column < 2:
            assert "missing" in refused(read_presence, scenes, "train", names)
    assert read_presence(scenes, "train", names).tolist() == [[1, 1, 1], [0, 0, 0]]
    assert set(np.unique(from_boxes)) <= {-1, 1}


def test_read_presence_ignores_difficult_objects(scenes):
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
    assert read_presence(scenes, "train", ["scene_0000"])[0, alone[0]] == 0


def test_read_objects_clips_boxes_counted_from_zero(scenes):
    text = scenes.annotation("scene_0000").read_text()
    start = text.index("<xmin>") + 6
    scenes.annotation("scene_0000").write_text(text[:start] + "0" + text[text.index("</xmin>") :])
    assert read_objects(scenes, "scene_0000").boxes[0, 0] == 0


# --- what is wrong -------------------------------------------------------------------------------


def test_devkit_open_raises_for_other_folders(tmp_path):
    assert "not a VOC devkit" in refused(Devkit.open, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"a\nb\na\n", b"\xff\xfe\x00", b"a\0b\n", b"background\n", b"a\x1b[2J\n"]
)
def test_devkit_open_raises_for_bad_class_files(scenes, content):
    (scenes.root / "classes.txt").write_bytes(content)
    assert "classes.txt" in refused(Devkit.open, scenes.root)


def test_class_names_that_are_too_long_for_a_file_are_missing_lists(scenes):
    classes = (scenes.root / "classes.txt").read_text().splitlines()
    (scenes.root / "classes.txt").write_text("\n".join([classes[0], "x" * 300, *classes[2:]]))
    names = scenes.split("Main", "train")
    unknown = refused(read_presence, Devkit.open(scenes.root), "train", names)
    assert f"class {classes[1]!r} is not in" in unknown


def test_split_raises_for_bad_lists(scenes):
    assert "test, train, val" in refused(scenes.split, "Main", "trainval")
    lists = scenes.root / "ImageSets" / "Main"
    (lists / "none.txt").write_text("\n")
    assert "empty" in refused(scenes.split, "Main", "none")
    (lists / "away.txt").write_text("../../etc/passwd\n")
    assert "not the name of an image" in refused(scenes.split, "Main", "away")
    (lists / "twice.txt").write_text("scene_0001\nscene_0000\nscene_0001\n")
    assert "names 'scene_0001' 2 times" in refused(scenes.split, "Main", "twice")
    (lists / "more.txt").write_text("scene_9999\n")
    assert "scene_9999.jpg' is missing" in refused(scenes.split, "Main", "more")


def test_missing_and_damaged_files_raise(scenes):
    scenes.annotation("scene_0000").unlink()
    assert "scene_0000.xml' is missing" in refused(read_objects, scenes, "scene_0000")
    scenes.mask("scene_0000").unlink()
    assert "scene_0000.png' is missing" in refused(read_label_map, scenes, "scene_0000")
    scenes.mask("scene_0001").write_bytes(b"\x89PNG")
    assert "scene_0001.png" in refused(read_label_map, scenes, "scene_0001")
    scenes.image("scene_0001").write_bytes(b"")
    assert "scene_0001.jpg" in refused(read_objects, scenes, "scene_0001")


def test_open_sets_decode_all_images(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr("nearfar.data.arrays.IN_MEMORY_BYTES", 0)
    damaged = scenes.image("scene_0002")  # in val
    damaged.write_bytes(damaged.read_bytes()[:-500])
    for opened in (
        lambda: open_segmentation_set(scenes, "val", 64),
        lambda: open_detection_set(scenes, "val", 64, tmp_path / "proposals"),
        lambda: open_classification_set(scenes, "val", 64),
    ):
        assert "scene_0002.jpg' cannot be read" in refused(opened)


def test_open_sets_raise_for_empty_splits(scenes, tmp_path):
    for name in scenes.split("Main", "val"):
        text = scenes.annotation(name).read_text()
        scenes.annotation(name).write_text(text.replace("<difficult>0", "<difficult>1"))
        Image.fromarray(np.full((96, 128), IGNORE_INDEX, np.uint8)).save(scenes.mask(name))
    assert "ignored" in refused(open_segmentation_set, scenes, "val", 64)
    assert "only difficult" in refused(
        open_detection_set, scenes, "val", 64, tmp_path / "proposals"
    )
    assert "no class is present" in refused(open_classification_set, scenes, "val", 64)


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
def test_read_objects_raises_for_hostile_xml(scenes, content):
    scenes.annotation("scene_0000").write_text(content)
    assert "scene_0000.xml" in refused(read_objects, scenes, "scene_0000")


@pytest.mark.parametrize(
    ("tag", "value", "says"),
    [
        ("xmax", "129", "not inside the image of 128x96 pixels"),
        ("ymax", "97", "not inside"),
        ("xmin", "-1", "not inside"),
        ("xmax", "0", "no area"),
        ("xmax", "nan", "no area"),
        ("ymax", "inf", "not inside"),
        ("xmin", "left", "expected numbers"),
        ("xmin", "", "expected numbers"),
    ],
)
def test_read_objects_raises_for_bad_boxes(scenes, tag, value, says):
    text = scenes.annotation("scene_0000").read_text()
    start, end = text.index(f"<{tag}>") + len(tag) + 2, text.index(f"</{tag}>")
    scenes.annotation("scene_0000").write_text(text[:start] + value + text[end:])
    line = refused(read_objects, scenes, "scene_0000")
    assert says in line
    assert "scene_0000.xml" in line


def test_read_objects_raises_for_box_without_area(scenes):
    text = scenes.annotation("scene_0000").read_text()
    for tag in ("xmin", "xmax"):
        start, end = text.index(f"<{tag}>") + 6, text.index(f"</{tag}>")
        text = text[:start] + "0" + text[end:]
    scenes.annotation("scene_0000").write_text(text)
    assert "no area" in refused(read_objects, scenes, "scene_0000")


def test_read_objects_names_unknown_classes(scenes):
    label = SHAPES[read_objects(scenes, "scene_0000").labels[0]]
    edit(scenes, f"<name>{label}", "<name>hexagon")
    assert "'hexagon'" in refused(read_objects, scenes, "scene_0000")


def test_read_label_map_raises_for_bad_files(scenes):
    mask = Image.open(scenes.mask("scene_0000"))
    mask.crop((0, 0, 100, 96)).save(scenes.mask("scene_0000"))
    assert "100x96 pixels: expected 128x96" in refused(read_label_map, scenes, "scene_0000")
    Image.fromarray(np.full((96, 128), 4, np.uint8)).save(scenes.mask("scene_0001"))
    assert "has the value 4: expected 0…3" in refused(read_label_map, scenes, "scene_0001")
    Image.new("RGB", (128, 96)).save(scenes.mask("scene_0002"))
    line = refused(read_label_map, scenes, "scene_0002")
    assert line.endswith(
        "cannot be read (pixels of mode RGB: expected 8 bits, with or without a palette)"
    )
    Image.fromarray(np.full((96, 128), IGNORE_INDEX, np.uint8)).save(scenes.mask("scene_0003"))
    assert (read_label_map(scenes, "scene_0003") == IGNORE_INDEX).all()


@pytest.mark.parametrize("line", ["scene_0000", "scene_0000 2", "scene_0000 1 1"])
def test_read_presence_raises_for_bad_lists(scenes, line):
    for kind in SHAPES:
        scenes.class_list(kind, "train").write_text(line + "\n")
    assert "disc_train.txt" in refused(read_presence, scenes, "train", ["scene_0000"])


def test_read_presence_raises_for_lists_of_other_images(scenes):
    for kind in SHAPES:
        scenes.class_list(kind, "train").write_text("scene_0001 1\n")
    assert "'scene_0000'" in refused(read_presence, scenes, "train", ["scene_0000"])


def test_synthetic_scenes_are_deterministic(scenes, tmp_path):
    again = write_scenes(tmp_path / "again", 8)
    for name in ("JPEGImages/scene_0003.jpg", "Annotations/scene_0003.xml"):
        assert (scenes.root / name).read_bytes() == (again / name).read_bytes()
    shutil.rmtree(again)
