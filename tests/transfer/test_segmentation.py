"""Fine-tuned segmenters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from averaging import averaging
from devkits import BACKBONE
from nearfar.config import Backbone
from nearfar.errors import NearfarError
from nearfar.transfer import (
    IGNORE_INDEX,
    Devkit,
    FinetuneConfig,
    SegmentationSet,
    finetune_segmenter,
    new_backbone,
    open_segmentation_set,
    read_label_map,
    read_scaled,
    write_scenes,
)
from nearfar.transfer.segmentation import FCN


@pytest.mark.parametrize(
    ("name", "strides"), [("alexnet", (32, 16, 8)), ("timm:resnet18", (32, 8))]
)
def test_fcn_scores_every_pixel(name, strides):
    backbone = new_backbone(Backbone(name=name, embedding_size=16), (3, 64, 64))
    for stride in strides:
        network = FCN(backbone, 5, stride).eval()
        assert len(network.skips) == {32: 0, 16: 1, 8: 2}[stride]
        with torch.no_grad():
            assert network(torch.rand(1, 3, 97, 130)).shape == (1, 5, 97, 130)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "side", "stride"),
    [("alexnet", 64, 8), ("alexnet", 64, 32), ("alexnet", 95, 32), ("timm:resnet18", 64, 32)],
)
def test_fcn_is_aligned_with_pixels(name, side, stride):
    """Averages of an image whose pixels are their own places score each pixel with its place."""
    backbone = new_backbone(Backbone(name=name, embedding_size=16, widths=(8,)), (3, side, side))
    network = averaging(FCN(backbone, 1, stride)).eval()
    ramp = (torch.arange(480) + 0.5).expand(1, 3, 480, 480)
    for image, far in ((ramp, False), (ramp.mT, True)):
        places = (network(image) / network(torch.ones_like(image)))[0, 0]
        line = places[:, 240] if far else places[240]
        assert torch.allclose(line[160:320], torch.arange(160.5, 320), atol=2)


def test_fcn_construction_keeps_batch_statistics():
    backbone = new_backbone(Backbone(name="timm:resnet18", embedding_size=512), (3, 64, 64)).train()
    network = FCN(backbone, 3, 8)
    assert torch.equal(network.backbone.features.bn1.running_mean, torch.zeros(64))


def test_fcn_skips_have_channels_of_finer_maps():
    backbone = new_backbone(*BACKBONE)
    # Those of conv5 at stride 16, and of conv2 at stride 8.
    assert [skip.in_channels for skip in FCN(backbone, 5, 8).skips] == [256, 192]


def test_fcn_raises_for_transformer_skips():
    backbone = new_backbone(Backbone(name="timm:vit_tiny_patch16_224"), (3, 64, 64))
    FCN(backbone, 5, 32)
    with pytest.raises(NearfarError, match="FCN-16s needs 1 finer"):
        FCN(backbone, 5, 16)


@pytest.mark.slow
def test_segmenter_learns_label_maps(devkit):
    train = open_segmentation_set(devkit, "train", 96)
    config = FinetuneConfig(steps=150, batch_size=4, lr=1e-3)
    model = finetune_segmenter(new_backbone(*BACKBONE), train, 8, config, device="cpu")
    iou = model.evaluate(train).iou()
    assert iou[0] > 0.9
    assert iou[1:].mean() > 0.4
    predicted = next(model.predict(train.pictures()))
    assert read_label_map(devkit, train.names[0]).shape == predicted.shape == (96, 128)


def test_segmenter_trains_on_ignored_pixels(tmp_path):
    devkit = Devkit.open(write_scenes(tmp_path / "scenes", 4))
    names = devkit.split("Segmentation", "train")
    for name in names:
        Image.fromarray(np.full((96, 128), IGNORE_INDEX, np.uint8)).save(devkit.mask(name))
    masked = SegmentationSet(devkit, names, 96)
    config = FinetuneConfig(steps=2, batch_size=2)
    model = finetune_segmenter(new_backbone(*BACKBONE), masked, 32, config, device="cpu")
    assert np.isnan(model.evaluate(masked).iou()).all()


def test_read_scaled_limits_elongated_images(tmp_path):
    devkit = Devkit.open(write_scenes(tmp_path / "scenes", 4, size=(40, 200)))
    image, scale = read_scaled(devkit.image("scene_0000"), 96)
    assert image.shape == (3, 32, 160)
    assert scale == pytest.approx(0.8)
    masked = open_segmentation_set(devkit, "train", 96)
    finetune_segmenter(
        new_backbone(*BACKBONE), masked, 32, FinetuneConfig(steps=1, batch_size=2), device="cpu"
    )
