"""Learning to classify, to detect and to segment, on generated scenes."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from averaging import averaging
from nearfar.data import images_from_array, open_images, require_labels
from nearfar.errors import NearfarError
from nearfar.experiments.synthetic_voc import SHAPES, write_classes, write_scenes
from nearfar.models import Architecture
from nearfar.transfer.annotations import Objects, read_objects
from nearfar.transfer.classification import classify, judge, random_views
from nearfar.transfer.detection import FastRCNN, Regions, Scenes, _mirrored, detect, train_detector
from nearfar.transfer.devkit import Devkit
from nearfar.transfer.labeled import Labeled, few, open_multiple, single, split_single
from nearfar.transfer.masks import IGNORED
from nearfar.transfer.metrics import detection_ap
from nearfar.transfer.proposals import propose
from nearfar.transfer.scenes import read_scaled
from nearfar.transfer.schedule import Schedule, batches, fit
from nearfar.transfer.segmentation import (
    FCN,
    Masked,
    open_masked,
    overlap,
    segment,
    train_segmenter,
)
from nearfar.transfer.weights import build

CPU = torch.device("cpu")
BACKBONE = Architecture((3, 64, 64), 64, (128,), backbone="alexnet")


@pytest.fixture(scope="module")
def devkit(tmp_path_factory) -> Devkit:
    return Devkit.open(write_scenes(tmp_path_factory.mktemp("scenes"), 24))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("shapes"), 20)


# --- schedule ------------------------------------------------------------------------------------


def test_every_image_is_seen_before_any_is_seen_again():
    rows = [row for batch in batches(7, Schedule(steps=7, batch_size=3)) for row in batch]
    assert len(rows) == 21
    for start in (0, 7, 14):
        assert sorted(rows[start : start + 7]) == list(range(7))
    assert rows[:7] != rows[7:14]


def test_small_sets_fill_batches_too():
    assert all(len(batch) == 5 for batch in batches(2, Schedule(steps=3, batch_size=5)))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"seed": -1}])
def test_schedules_that_cannot_be(wrong):
    with pytest.raises(NearfarError, match=next(iter(wrong))):
        Schedule(**wrong)


def test_a_loss_that_is_not_finite_stops():
    network = torch.nn.Linear(1, 1)
    with pytest.raises(NearfarError, match="smaller learning rate"):
        fit(network, lambda rows: network.weight.sum() / 0, 2, Schedule(steps=2, batch_size=1))


# --- classification ------------------------------------------------------------------------------


def labeled(folder) -> tuple[Labeled, Labeled]:
    return split_single(open_images(folder, size=64, channels=3))


def test_what_is_frozen_stays_and_what_is_trained_moves(shapes, monkeypatch):
    train, test = labeled(shapes)
    seen = {}
    import nearfar.transfer.classification as module

    def watched(network, *arguments):
        before = {k: v.clone() for k, v in network.state_dict().items()}
        fit(network, *arguments)
        after = network.state_dict()
        seen["moved"] = {k for k in before if not torch.equal(before[k], after[k])}

    monkeypatch.setattr(module, "fit", watched)
    backbone = build(BACKBONE, 0)
    weights = {k: v.clone() for k, v in backbone.state_dict().items()}
    schedule = Schedule(steps=2, batch_size=8, lr=1e-3)
    for protocol in ("fc", "all"):
        classify(backbone, train, test, protocol, schedule, device=CPU)
        features = {name for name in seen["moved"] if ".features." in name}
        assert bool(features) == (protocol == "all")
        assert {"backbone.head.fc6.weight", "fc8.weight"} <= seen["moved"]
    # The caller's backbone stays as it is.
    assert all(torch.equal(weights[k], v) for k, v in backbone.state_dict().items())


def test_batch_statistics_of_frozen_features_stay(shapes, monkeypatch):
    import nearfar.transfer.classification as module

    train, test = labeled(shapes)
    kept = {}

    def watched(network, *arguments):
        fit(network, *arguments)
        kept["mean"] = network.backbone.features.bn1.running_mean.clone()

    monkeypatch.setattr(module, "fit", watched)
    backbone = build(Architecture((3, 64, 64), 512, backbone="resnet18"), 0)
    classify(backbone, train, test, "fc", Schedule(steps=1, batch_size=4), device=CPU)
    assert torch.equal(kept["mean"], backbone.features.bn1.running_mean)


@pytest.mark.slow
def test_shapes_are_learned(tmp_path):
    train, test = labeled(write_classes(tmp_path, 100))
    schedule = Schedule(steps=400, batch_size=16, lr=1e-3)
    scores = classify(build(BACKBONE, 0), train, test, "all", schedule, device=CPU)
    assert judge(scores, test)["accuracy"] > 0.6


def test_codes_that_tell_classes_apart_are_told_apart_by_the_linear_layer():
    pixels = np.zeros((60, 64, 64, 3), np.uint8)
    labels = np.arange(60) % 3
    pixels[np.arange(60), :, :, labels] = 255
    images = images_from_array(pixels, labels)
    rows = np.arange(60)
    train, test = single(images, labels, rows[:30]), single(images, labels, rows[30:])
    backbone = build(BACKBONE, 0)
    assert classify(backbone, train, test, "linear", Schedule(), device=CPU).shape == (30, 3)
    scores = classify(backbone, train, test, "linear", Schedule(), device=CPU)
    assert judge(scores, test) == {"accuracy": 1.0}
    # The same as questions of yes and no, one of which is left open for some images.
    seen = train.seen.copy()
    seen[:3] = 0
    several = Labeled(train.images, seen, train.classes, single=False)
    asked = Labeled(test.images, test.seen, test.classes, single=False)
    scores = classify(backbone, several, asked, "linear", Schedule(), device=CPU)
    assert judge(scores, asked) == {"mAP, 11 points": 1.0, "mAP, all points": 1.0}


def test_images_not_to_be_judged_do_not_move_anything(devkit):
    everything = open_multiple(devkit, "train", 64)
    nothing = Labeled(
        everything.images, np.zeros_like(everything.seen), everything.classes, single=False
    )
    schedule = Schedule(steps=2, batch_size=4, weight_decay=0.0)
    scores = classify(build(BACKBONE, 0), nothing, everything, "all", schedule, device=CPU)
    assert (scores == 0).all()


def test_views_are_mirrored_or_not_and_shifted():
    torch.manual_seed(0)
    ramp = torch.arange(64.0).expand(1, 64, 64)
    views = random_views(ramp.repeat(40, 1, 1, 1))
    assert views.shape == (40, 1, 64, 64)
    middle = views[:, 0, 32]
    shifts = {float(row[32]) for row in middle}
    assert len(shifts) > 5
    assert all(23 <= shift <= 41 for shift in shifts)
    rising = (middle[:, 40] > middle[:, 24]).float().mean()
    assert 0.2 < rising < 0.8


def test_few_labels_are_so_many_of_each_class():
    labels = np.array([0] * 10 + [1] * 3 + [2] * 10)
    rows = np.arange(0, 23)
    chosen = few(labels, rows, 5, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [5, 3, 5]
    assert not np.array_equal(chosen, few(labels, rows, 5, seed=1))
    with pytest.raises(NearfarError, match="labels_per_class=0"):
        few(labels, rows, 0, seed=0)


def test_test_images_may_have_their_classes_in_another_order(shapes, tmp_path):
    only = tmp_path / "test" / "triangle"
    only.mkdir(parents=True)
    Image.open(shapes / "triangle" / "0000.jpg").save(only / "a.png")
    tested = open_images(tmp_path / "test", size=64, channels=3)
    for _ in range(2):  # what is given stays as it is
        train, test = split_single(open_images(shapes, size=64), tested, labels_per_class=2)
        assert test.seen.tolist() == [[-1, -1, 1]]
    assert tested.classes == ["triangle"]
    assert (train.seen == 1).sum(0).tolist() == [2, 2, 2]
    assert list(train.classes) == sorted(SHAPES)


@pytest.mark.parametrize("numbers", [(1, 2), (-1, 0, 1), (7, 2_000_000)])
def test_numbers_of_classes_may_be_any(tmp_path, numbers):
    labels = np.array([numbers[i % len(numbers)] for i in range(20)])
    images = np.zeros((20, 64, 64), np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    np.savez(tmp_path / "test.npz", images=images[:4], labels=labels[:4])
    train, test = split_single(
        *(open_images(tmp_path / f"{name}.npz") for name in ("train", "test"))
    )
    assert list(train.classes) == list(test.classes) == [str(number) for number in numbers]
    named = [train.classes[column] for column in test.seen.argmax(1)]
    assert named == [str(label) for label in labels[:4]]


def test_classes_that_were_not_learned_are_refused(tmp_path):
    images = np.zeros((20, 64, 64), np.uint8)
    for name, classes in (("train", 3), ("test", 5), ("one", 1)):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(20) % classes)
    with pytest.raises(NearfarError, match="has the class '3'"):
        split_single(*(open_images(tmp_path / f"{name}.npz") for name in ("train", "test")))
    with pytest.raises(NearfarError, match="are of one class"):
        split_single(open_images(tmp_path / "one.npz"))


def test_of_many_classes_only_two_are_learned(shapes):
    images = open_images(shapes, size=64, channels=3)
    labels = require_labels(images)
    rows = np.flatnonzero(labels < 2)
    train, test = single(images, labels, rows), single(images, labels, np.arange(len(images)))
    scores = classify(build(BACKBONE, 0), train, test, "linear", Schedule(steps=1), device=CPU)
    assert scores.shape == (len(images), 3)
    assert (scores[rows].argmax(1) == labels[rows]).mean() > 0.7
    assert (scores.argmax(1) < 2).all(), "nothing is taken for a class that was never seen"


def test_a_fifth_is_held_out(shapes):
    train, test = labeled(shapes)
    images = open_images(shapes, size=64)
    assert (test.seen == 1).sum(0).tolist() == [4, 4, 4]
    assert len(train.images) + len(test.images) == len(require_labels(images))


def test_images_that_are_too_small_are_told(shapes):
    train, test = split_single(open_images(shapes, size=16))
    for protocol in ("linear", "all"):
        with pytest.raises(NearfarError, match="16x16 pixels are too small"):
            classify(build(BACKBONE, 0), train, test, protocol, Schedule(steps=1), device=CPU)


def test_batch_normalization_does_not_learn_from_one_small_image(shapes):
    train, test = split_single(open_images(shapes, size=32))
    backbone = build(Architecture((3, 32, 32), 512, backbone="resnet18"), 0)
    alone = Schedule(steps=1, batch_size=1)
    with pytest.raises(NearfarError, match="one image of 32x32 pixels alone"):
        classify(backbone, train, test, "all", alone, device=CPU)
    classify(backbone, train, test, "fc", alone, device=CPU)
    train, test = split_single(open_images(shapes, size=16))
    with pytest.raises(NearfarError, match="expected 32 or more"):
        classify(backbone, train, test, "fc", alone, device=CPU)


# --- detection -----------------------------------------------------------------------------------


def with_jitter(devkit: Devkit, split: str, size: int = 96) -> Scenes:
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
    return Scenes(devkit, names, objects, proposals, size)


@pytest.mark.slow
def test_objects_are_found_after_learning_and_not_before(devkit):
    train = with_jitter(devkit, "train")
    backbone = build(BACKBONE, 0)
    precision = []
    for steps in (1, 200):
        schedule = Schedule(steps=steps, batch_size=2, lr=5e-4)
        network = train_detector(backbone, train, schedule, device=CPU)
        found = detect(network, train, device=CPU)
        precision.append(np.nanmean(detection_ap(found, train.objects, 3, "all")))
    assert precision[0] < 0.3
    assert precision[1] > 0.5
    for each, objects in zip(found, train.objects, strict=True):
        height, width = objects.size
        assert (each.boxes >= 0).all()
        assert (each.boxes[:, [0, 2]] <= width + 1e-3).all()
        assert (each.boxes[:, [1, 3]] <= height + 1e-3).all()


def test_scenes_without_objects_or_proposals_and_of_other_sizes(devkit, tmp_path):
    scenes = with_jitter(devkit, "train")
    none = Objects(
        np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), (96, 128)
    )
    first = scenes.objects[0]
    difficult = Objects(first.boxes, first.labels, np.ones(len(first.labels), bool), first.size)
    empty = np.zeros((0, 4), np.float32)
    odd = Scenes(
        devkit,
        scenes.names[:3],
        [none, difficult, scenes.objects[2]],
        [scenes.proposals[0], scenes.proposals[1], empty],
        96,
    )
    nothing = replace(odd, proposals=[empty, empty, empty])
    train_detector(build(BACKBONE, 0), nothing, Schedule(steps=3, batch_size=1), device=CPU)
    network = train_detector(build(BACKBONE, 0), odd, Schedule(steps=2, batch_size=3), device=CPU)
    found = detect(network, odd, device=CPU)
    assert len(found[2].boxes) == 0


def test_difficult_objects_are_not_learned(devkit, monkeypatch):
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
    one = Scenes(devkit, scenes.names[:1], [mixed], scenes.proposals[:1], 96)
    train_detector(build(BACKBONE, 0), one, Schedule(steps=1, batch_size=1), device=CPU)
    assert seen[0]["labels"].tolist() == (easy.labels + 1).tolist()
    assert len(seen[0]["boxes"]) == len(easy.boxes)


@pytest.mark.parametrize("side", [63, 68, 78, 94, 240])
def test_regions_are_where_their_boxes_are(side):
    """Of a map whose cells are their own places, the parts of a region are theirs."""
    count = ((side - 7) // 4 - 1) // 2  # what AlexNet makes of it
    count = (count - 1) // 2
    places = (15.5 + 16 * torch.arange(count)).expand(1, 1, count, count)
    regions = Regions(build(BACKBONE, 0).grid)
    last = places.max().item()
    for left, right in ((15.5, last), (0, side)):
        box = torch.tensor([[left, 10, right, 30]])
        found = regions({"map": places}, [box], [(side, side)])[0, 0, 0]
        points = left + (right - left) * (torch.arange(12) + 0.5) / 12
        assert torch.allclose(found, points.clamp(15.5, last).view(6, 2).mean(1), atol=1e-3)


def test_mirrored_boxes_lie_on_the_mirrored_object(devkit):
    name = devkit.split("Main", "train")[0]
    box = torch.from_numpy(read_objects(devkit, name).boxes[:1])
    image, _ = read_scaled(devkit, name, 96)
    left, top, right, bottom = _mirrored(box, image.shape[-1])[0].int().tolist()
    part = image.flip(-1)[:, top:bottom, left:right]
    l0, t0, r0, b0 = box[0].int().tolist()
    assert torch.equal(part.flip(-1), image[:, t0:b0, l0:r0])


def test_proposals_cover_objects_and_are_kept(devkit, tmp_path):
    pytest.importorskip("cv2.ximgproc")
    from torchvision.ops import box_iou

    names = devkit.split("Main", "val")
    boxes = propose(devkit, names, tmp_path / "kept")
    best = []
    for name, each in zip(names, boxes, strict=True):
        objects = read_objects(devkit, name)
        assert each.min() >= 0
        assert (each[:, 2] <= 128).all()
        overlaps = box_iou(torch.from_numpy(objects.boxes), torch.from_numpy(each))
        best += overlaps.max(1).values.tolist()
    assert np.mean(np.array(best) > 0.5) > 0.9
    kept = tmp_path / "kept" / f"{names[0]}.npy"
    np.save(kept, np.array([[1, 2, 3, 4]], np.float32))
    assert propose(devkit, names[:1], tmp_path / "kept")[0].tolist() == [[1, 2, 3, 4]]
    for damage in (b"", b"nothing"):
        kept.write_bytes(damage)
        with pytest.raises(NearfarError, match=f"{names[0]}.npy"):
            propose(devkit, names[:1], tmp_path / "kept")
    np.save(kept, np.zeros(3))
    with pytest.raises(NearfarError, match="no boxes"):
        propose(devkit, names[:1], tmp_path / "kept")


def test_proposals_are_the_same_every_time(devkit, tmp_path):
    pytest.importorskip("cv2.ximgproc")
    names = devkit.split("Main", "val")[:1]
    first, again = (propose(devkit, names, tmp_path / part) for part in "ab")
    assert np.array_equal(first[0], again[0])


def test_an_opencv_without_selective_search_is_told_of(devkit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2.ximgproc", None)
    with pytest.raises(NearfarError, match=r"^cv2.ximgproc is not installed: .*detection"):
        propose(devkit, devkit.split("Main", "val")[:1], tmp_path)


# --- segmentation --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "strides"), [("alexnet", (32, 16, 8)), ("resnet18", (32, 8))])
def test_fcns_score_every_pixel(name, strides):
    backbone = build(Architecture((3, 64, 64), 16, backbone=name), 0)
    for stride in strides:
        network = FCN(backbone, 5, stride).eval()
        assert len(network.skips) == {32: 0, 16: 1, 8: 2}[stride]
        with torch.no_grad():
            assert network(torch.rand(1, 3, 97, 130)).shape == (1, 5, 97, 130)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "side", "stride"),
    [("alexnet", 64, 8), ("alexnet", 64, 32), ("alexnet", 95, 32), ("resnet18", 64, 32)],
)
def test_pixels_are_scored_by_what_is_there(name, side, stride):
    """Averages of an image whose pixels are their own places score each pixel with its place."""
    backbone = build(Architecture((3, side, side), 16, (8,), backbone=name), 0)
    network = averaging(FCN(backbone, 1, stride)).eval()
    ramp = (torch.arange(480) + 0.5).expand(1, 3, 480, 480)
    for image, far in ((ramp, False), (ramp.mT, True)):
        places = (network(image) / network(torch.ones_like(image)))[0, 0]
        line = places[:, 240] if far else places[240]
        assert torch.allclose(line[160:320], torch.arange(160.5, 320), atol=2)


def test_training_statistics_stay_as_they_are_until_training():
    backbone = build(Architecture((3, 64, 64), 512, backbone="resnet18"), 0).train()
    network = FCN(backbone, 3, 8)
    assert torch.equal(network.backbone.features.bn1.running_mean, torch.zeros(64))


def test_finer_maps_are_those_of_the_stride():
    backbone = build(BACKBONE, 0)
    # Those of conv5 at stride 16, and of conv2 at stride 8.
    assert [skip.in_channels for skip in FCN(backbone, 5, 8).skips] == [256, 192]


def test_a_transformer_has_no_finer_maps():
    backbone = build(Architecture((3, 64, 64), 384, backbone="vit-small"), 0)
    FCN(backbone, 5, 32)
    with pytest.raises(NearfarError, match="FCN-16s needs 1 finer"):
        FCN(backbone, 5, 16)


@pytest.mark.slow
def test_masks_are_learned(devkit):
    train = open_masked(devkit, "train", 96)
    schedule = Schedule(steps=150, batch_size=4, lr=1e-3)
    network = train_segmenter(build(BACKBONE, 0), train, 8, schedule, device=CPU)
    iou = overlap(network, train, device=CPU).iou()
    assert iou[0] > 0.9
    assert iou[1:].mean() > 0.4
    truth, predicted = next(segment(network, train, device=CPU))
    assert truth.shape == predicted.shape == (96, 128)


def test_masks_in_which_all_is_ignored(tmp_path):
    devkit = Devkit.open(write_scenes(tmp_path / "scenes", 4))
    names = devkit.split("Segmentation", "train")
    for name in names:
        Image.fromarray(np.full((96, 128), IGNORED, np.uint8)).save(devkit.mask(name))
    masked = Masked(devkit, names, 96)
    schedule = Schedule(steps=2, batch_size=2)
    network = train_segmenter(build(BACKBONE, 0), masked, 32, schedule, device=CPU)
    assert np.isnan(overlap(network, masked, device=CPU).iou()).all()


def test_images_larger_than_asked_for_are_cut_and_long_ones_are_limited(tmp_path):
    devkit = Devkit.open(write_scenes(tmp_path / "scenes", 4, size=(40, 200)))
    image, scale = read_scaled(devkit, "scene_0000", 96)
    assert image.shape == (3, 32, 160)
    assert scale == pytest.approx(0.8)
    masked = open_masked(devkit, "train", 96)
    train_segmenter(build(BACKBONE, 0), masked, 32, Schedule(steps=1, batch_size=2), device=CPU)
