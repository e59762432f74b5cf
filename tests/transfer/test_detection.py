"""Fine-tuned detectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from devkits import BACKBONE
from nearfar.transfer import (
    DetectionSet,
    Devkit,
    FinetuneConfig,
    Objects,
    detection_ap,
    finetune_detector,
    new_backbone,
    read_objects,
    read_scaled,
)
from nearfar.transfer.detection import FastRCNN, RegionPooling, _mirror


def with_jitter(devkit: Devkit, split: str, size: int = 96) -> DetectionSet:
    """Scenes whose proposals are the objects, moved a little, and boxes at random."""
    generator = np.random.default_rng(0)
    names = devkit.split("Main", split)
    objects = [read_objects(devkit, name) for name in names]
    proposals = []
    for each in objects:
        near = np.repeat(each.boxes, 4, axis=0)
        near = near + generator.normal(0, 3, near.shape)
        corner = generator.uniform(0, 60, (20, 2))
        random = np.hstack([corner, corner + generator.uniform(10, 36, (20, 2))])
        proposals.append(np.vstack([near, random]).astype(np.float32))
    return DetectionSet(devkit, names, objects, proposals, size)


@pytest.mark.slow
def test_detector_learns_objects(devkit):
    train = with_jitter(devkit, "train")
    backbone = new_backbone(*BACKBONE)
    precision = []
    for steps in (1, 200):
        config = FinetuneConfig(steps=steps, batch_size=2, lr=5e-4)
        model = finetune_detector(backbone, train, config, device="cpu")
        found = model.predict_set(train)
        precision.append(np.nanmean(detection_ap(found, train.objects, 3, "all")))
    assert precision[0] < 0.3
    assert precision[1] > 0.5
    for each, objects in zip(found, train.objects, strict=True):
        height, width = objects.size
        assert (each.boxes >= 0).all()
        assert (each.boxes[:, [0, 2]] <= width + 1e-3).all()
        assert (each.boxes[:, [1, 3]] <= height + 1e-3).all()


def test_detector_trains_without_objects_or_proposals(devkit, tmp_path):
    scenes = with_jitter(devkit, "train")
    none = Objects(
        np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), (96, 128)
    )
    first = scenes.objects[0]
    difficult = Objects(first.boxes, first.labels, np.ones(len(first.labels), bool), first.size)
    empty = np.zeros((0, 4), np.float32)
    odd = DetectionSet(
        devkit,
        scenes.names[:3],
        [none, difficult, scenes.objects[2]],
        [scenes.proposals[0], scenes.proposals[1], empty],
        96,
    )
    nothing = replace(odd, proposals=[empty, empty, empty])
    finetune_detector(
        new_backbone(*BACKBONE), nothing, FinetuneConfig(steps=3, batch_size=1), device="cpu"
    )
    model = finetune_detector(
        new_backbone(*BACKBONE), odd, FinetuneConfig(steps=2, batch_size=3), device="cpu"
    )
    found = model.predict_set(odd)
    assert len(found[2].boxes) == 0


def test_detector_ignores_difficult_objects(devkit, monkeypatch):
    scenes = with_jitter(devkit, "train")
    easy = scenes.objects[0]
    mixed = Objects(
        np.vstack([easy.boxes, [[0, 0, 50, 50]]]).astype(np.float32),
        np.append(easy.labels, 1),
        np.append(easy.difficult, True),
        easy.size,
    )
    seen = []
    forward = FastRCNN.forward

    def watched(self, images, boxes, truth=None):
        seen.extend(truth)
        return forward(self, images, boxes, truth)

    monkeypatch.setattr(FastRCNN, "forward", watched)
    one = DetectionSet(devkit, scenes.names[:1], [mixed], scenes.proposals[:1], 96)
    finetune_detector(
        new_backbone(*BACKBONE), one, FinetuneConfig(steps=1, batch_size=1), device="cpu"
    )
    assert seen[0]["labels"].tolist() == (easy.labels + 1).tolist()
    assert len(seen[0]["boxes"]) == len(easy.boxes)


@pytest.mark.parametrize("side", [63, 68, 78, 94, 240])
def test_region_pooling_is_aligned_with_boxes(side):
    """Of a map whose cells are their own places, the parts of a region are theirs."""
    count = ((side - 7) // 4 - 1) // 2  # what AlexNet makes of it
    count = (count - 1) // 2
    places = (15.5 + 16 * torch.arange(count)).expand(1, 1, count, count)
    regions = RegionPooling(new_backbone(*BACKBONE).grid)
    last = places.max().item()
    for left, right in ((15.5, last), (0, side)):
        box = torch.tensor([[left, 10, right, 30]])
        found = regions({"map": places}, [box], [(side, side)])[0, 0, 0]
        points = left + (right - left) * (torch.arange(12) + 0.5) / 12
        assert torch.allclose(found, points.clamp(15.5, last).view(6, 2).mean(1), atol=1e-3)


def test_mirror_moves_boxes_with_objects(devkit):
    name = devkit.split("Main", "train")[0]
    box = torch.from_numpy(read_objects(devkit, name).boxes[:1])
    image, _ = read_scaled(devkit.image(name), 96)
    left, top, right, bottom = _mirror(box, image.shape[-1])[0].int().tolist()
    part = image.flip(-1)[:, top:bottom, left:right]
    l0, t0, r0, b0 = box[0].int().tolist()
    assert torch.equal(part.flip(-1), image[:, t0:b0, l0:r0])
