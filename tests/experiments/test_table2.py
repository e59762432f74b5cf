"""``nearfar reproduce table2``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
import torchvision

from nearfar.errors import NearfarError
from nearfar.experiments import table2 as module
from nearfar.experiments.synthetic_voc import write_classes, write_scenes
from nearfar.experiments.table2 import table2
from nearfar.experiments.transfers import QUICK
from nearfar.models import Architecture
from selective_search import needs_selective_search


@pytest.mark.slow
def test_table2_quick(tmp_path):
    needs_selective_search()
    rows = ("random", "NRE", "nearfar")
    text = table2(tmp_path / "out", seeds=1, rows=rows, quick=True)
    for row in rows:
        assert f"| {row} |" in text
    written = json.loads((tmp_path / "out" / "table2.json").read_text())
    assert len(written["cells"]) == 9
    assert (tmp_path / "out" / "table2.png").is_file()
    assert table2(tmp_path / "out", seeds=1, rows=rows, quick=True) == text


#: Where the owners put their sets, and which of the paper's numbers ours stand beside, in %.
OWNERS = {
    "bccd": {"bccd, boxes": None},
    "camvid": {"camvid, masks": None},
    "VOCdevkit/VOC2007": {
        "VOC2007, FC8": 55.9,
        "VOC2007, FC6-8": 71.2,
        "VOC2007, all": 74.4,
        "VOC2007, boxes": 54.7,
    },
    "VOCdevkit/VOC2012": {"VOC2012, masks": 51.1},
}


@pytest.mark.parametrize("full", [False, True])
def test_table2_finds_data_in_owners_layout(full, tmp_path, monkeypatch):
    needs_selective_search()
    name = "WHOLE" if full else "PART"
    extent = getattr(module, name)
    small = module.MOMENT.choices | {"batch_size": 8}
    monkeypatch.setattr(module, name, replace(extent, sizes=QUICK, choices=small, epochs=2))
    write_classes(tmp_path / extent.folder, 3)
    for place in OWNERS:
        lists = write_scenes(tmp_path / place, 8) / "ImageSets" / "Main"
        both = (lists / "train.txt").read_text() + (lists / "val.txt").read_text()
        (lists / "trainval.txt").write_text(both)
    text = table2(tmp_path / "out", data_root=tmp_path, full=full, seeds=1, rows=["NRE"])
    titles, line = ([cell.strip() for cell in text.splitlines()[row].split("|")] for row in (0, 2))
    found = dict(zip(titles, line, strict=True))
    expected = {title: paper for columns in OWNERS.values() for title, paper in columns.items()}
    assert found.keys() == {"", *expected}
    for title, paper in expected.items():
        _, _, shown = found[title].partition("(")
        assert shown == ("" if paper is None else f"{paper})")
    assert len(list((tmp_path / "out" / "proposals" / "voc-boxes").iterdir())) == 8
    (config,) = (tmp_path / "out" / "runs").glob("NRE-*/config.json")
    assert json.loads(config.read_text())["train"]["bank"] == ("disk" if full else "memory")


def test_table2_whole_uses_alexnet():
    choices = module.WHOLE.choices
    with torch.device("meta"):
        ours = Architecture(
            (3, 224, 224),
            choices["embedding_size"],
            choices["widths"],
            backbone=choices["backbone"],
        ).build()
        published = torchvision.models.alexnet()
    count = sum(weights.numel() for weights in published.parameters())
    classes = sum(weights.numel() for weights in published.classifier[-1].parameters())
    assert sum(weights.numel() for weights in ours.encoder.parameters()) == count - classes
    for row in module.PRETRAINED.values():
        assert row(module.WHOLE.epochs, **choices).clusters == 400


def test_table2_names_missing_data(tmp_path):
    for full, folder in ((False, "tiny-imagenet-200/train"), (True, "/imagenet/train")):
        with pytest.raises(NearfarError, match=f"{folder}' does not exist"):
            table2(tmp_path / "out", data_root=tmp_path, full=full)
    with pytest.raises(NearfarError, match="full and quick"):
        table2(tmp_path / "out", full=True, quick=True)
    with pytest.raises(NearfarError, match="'BiGAN' is unknown"):
        table2(tmp_path / "out", rows=["BiGAN"])
    write_classes(tmp_path / "tiny-imagenet-200" / "train", 1)
    with pytest.raises(NearfarError, match="holds none of"):
        table2(tmp_path / "out", data_root=tmp_path)


def test_table2_checks_opencv_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2.ximgproc", None)
    with pytest.raises(NearfarError, match=r"nearfar\[detection\]"):
        table2(tmp_path / "out", quick=True)
    assert not (tmp_path / "out" / "runs").exists()
