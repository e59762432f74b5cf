"""Table 2: transfer to data sets where their owners put them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
import torchvision

from nearfar.config import flatten
from nearfar.errors import NearfarError
from nearfar.experiments import run, table2
from nearfar.experiments.cells import Key
from nearfar.experiments.transfers import QUICK
from nearfar.models import build_network
from nearfar.transfer import write_classes, write_scenes
from selective_search import needs_selective_search


@pytest.mark.slow
def test_the_quick_form_of_table2(tmp_path):
    needs_selective_search()
    rows = ("random", "NRE", "nearfar")
    text = run(table2.TABLE2, tmp_path / "out", seeds=1, rows=rows, quick=True)
    for row in rows:
        assert f"| {row} |" in text
    written = json.loads((tmp_path / "out" / "table2.json").read_text())
    assert len(written["cells"]) == 9
    assert (tmp_path / "out" / "table2.png").is_file()
    assert run(table2.TABLE2, tmp_path / "out", seeds=1, rows=rows, quick=True) == text


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
def test_table2_of_sets_where_their_owners_put_them(full, tmp_path):
    needs_selective_search()
    table = table2.TABLE2_FULL if full else table2.TABLE2
    options = table2.MOMENT.options | {"batch_size": 8}
    extent = replace(table.extent, sizes=QUICK, options=options)
    write_classes(tmp_path / extent.folder, 3)
    for place in OWNERS:
        lists = write_scenes(tmp_path / place, 8) / "ImageSets" / "Main"
        both = (lists / "train.txt").read_text() + (lists / "val.txt").read_text()
        (lists / "trainval.txt").write_text(both)
    choices = {"data_root": tmp_path, "seeds": 1, "rows": ["NRE"], "epochs": 2, "extent": extent}
    text = run(table, tmp_path / "out", **choices)
    titles, line = ([cell.strip() for cell in text.splitlines()[row].split("|")] for row in (0, 2))
    found = dict(zip(titles, line, strict=True))
    expected = {title: paper for columns in OWNERS.values() for title, paper in columns.items()}
    assert found.keys() == {"", *expected}
    for title, paper in expected.items():
        _, _, shown = found[title].partition("(")
        assert shown == ("" if paper is None else f"{paper})")
    assert len(list((tmp_path / "out" / "proposals" / "voc-boxes").iterdir())) == 8
    (config,) = (tmp_path / "out" / "runs").glob("NRE-*/config.json")
    search = json.loads(config.read_text())["train"]["objective"]["search"]
    assert search["bank"] == ("disk" if full else "memory")


def test_the_whole_of_table2_is_what_alexnet_is():
    table = table2.TABLE2_FULL
    configs = [table.config(Key(row, 0)) for row, value in table2.ROWS.items() if value.config]
    with torch.device("meta"):
        ours = build_network(configs[0].network, (3, 224, 224))
        published = torchvision.models.alexnet()
    count = sum(weights.numel() for weights in published.parameters())
    classes = sum(weights.numel() for weights in published.classifier[-1].parameters())
    assert sum(weights.numel() for weights in ours.encoder.parameters()) == count - classes
    assert {flatten(config)["clusters"] for config in configs} == {400}
    assert len(configs) == 6


def test_table2_names_what_is_missing(tmp_path):
    out = tmp_path / "out"
    for full, folder in ((False, "tiny-imagenet-200/train"), (True, "/imagenet/train")):
        with pytest.raises(NearfarError, match=f"{folder}' does not exist"):
            run(table2.TABLE2_FULL if full else table2.TABLE2, out, data_root=tmp_path)
    with pytest.raises(NearfarError, match="full form has no quick form"):
        run(table2.TABLE2_FULL, out, quick=True)
    with pytest.raises(NearfarError, match="'BiGAN' is unknown"):
        run(table2.TABLE2, out, rows=["BiGAN"])
    write_classes(tmp_path / "tiny-imagenet-200" / "train", 1)
    with pytest.raises(NearfarError, match="holds none of"):
        run(table2.TABLE2, out, data_root=tmp_path)


def test_table2_needs_opencv_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2.ximgproc", None)
    with pytest.raises(NearfarError, match=r"nearfar\[detection\]"):
        run(table2.TABLE2, tmp_path / "out", quick=True)
    assert not (tmp_path / "out" / "runs").exists()
