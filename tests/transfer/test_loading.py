"""Fine-tuned networks: saving, loading, prediction on new images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nearfar.data import ArrayImages, open_images
from nearfar.errors import NearfarError
from nearfar.transfer import (
    BackboneSpec,
    DetectionSet,
    Devkit,
    FinetuneConfig,
    finetune_classifier,
    finetune_detector,
    finetune_segmenter,
    load_finetuned,
    open_classification_set,
    open_segmentation_set,
    read_objects,
    split_labeled_images,
    write_classes,
    write_predictions,
    write_scenes,
)
from program import run

ALEXNET = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
CONFIG = FinetuneConfig(steps=3, batch_size=4, lr=1e-3)


@pytest.fixture(scope="module")
def devkit(tmp_path_factory) -> Devkit:
    return Devkit.open(write_scenes(tmp_path_factory.mktemp("scenes"), 12))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = write_classes(tmp_path_factory.mktemp("shapes"), 10)
    return split_labeled_images(open_images(folder, size=64, channels=3))


@pytest.fixture(scope="module")
def detector(devkit):
    names = devkit.split("Main", "train")
    objects = [read_objects(devkit, name) for name in names]
    train = DetectionSet(devkit, names, objects, [each.boxes for each in objects], 96)
    return finetune_detector(ALEXNET.build(), train, CONFIG, device="cpu")


@pytest.fixture(scope="module")
def segmenter(devkit):
    train = open_segmentation_set(devkit, "train", 96)
    return finetune_segmenter(ALEXNET.build(), train, 8, CONFIG, device="cpu")


@pytest.mark.parametrize("protocol", ["linear", "fc", "all"])
def test_classifier_loads_and_predicts_probabilities(shapes, protocol, tmp_path):
    train, test = shapes
    model = finetune_classifier(ALEXNET.build(), train, protocol, CONFIG, device="cpu")
    model.save(tmp_path / "model")
    loaded = load_finetuned(tmp_path / "model")
    probabilities = model.predict(test.images)
    assert np.array_equal(loaded.predict(test.images), probabilities)
    assert loaded.evaluate(test) == model.evaluate(test)
    assert loaded.classes == tuple(train.classes)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert np.array_equal(probabilities.argmax(1), model.scores(test.images).argmax(1))


def test_classifier_of_several_classes_predicts_each_alone(devkit, tmp_path):
    train = open_classification_set(devkit, "train", 64)
    model = finetune_classifier(ALEXNET.build(), train, "all", CONFIG, device="cpu")
    model.save(tmp_path)
    probabilities = load_finetuned(tmp_path).predict(train.images)
    expected = 1 / (1 + np.exp(-model.scores(train.images) / 2))
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:vit_tiny_patch16_224"])
def test_other_backbones_load(shapes, name, tmp_path):
    train, test = shapes
    size = 192 if "vit" in name else 512
    spec = BackboneSpec(name=name, embedding_size=size, widths=(16,), image_size=(64, 64))
    model = finetune_classifier(spec.build(), train, "linear", CONFIG, device="cpu")
    model.save(tmp_path)
    assert np.array_equal(load_finetuned(tmp_path).predict(test.images), model.predict(test.images))


def test_detector_loads_and_predicts_boxes_in_pixels_of_the_image(devkit, detector, tmp_path):
    detector.save(tmp_path)
    loaded = load_finetuned(tmp_path)
    boxes = np.array([[10, 10, 90, 90], [30, 20, 120, 80]], np.float32)
    path = devkit.image("scene_0003")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    results = [
        next(model.predict([picture], proposals=[boxes]))
        for model, picture in ((detector, path), (loaded, path), (loaded, pixels))
    ]
    for each in results:
        assert np.array_equal(each.boxes, results[0].boxes)
        assert np.array_equal(each.scores, results[0].scores)
        assert ((each.boxes >= 0) & (each.boxes <= [128, 96, 128, 96])).all()
        assert set(each.labels.tolist()) <= {0, 1, 2}


def test_segmenter_loads_and_predicts_at_the_size_of_the_image(devkit, segmenter, tmp_path):
    segmenter.save(tmp_path)
    loaded = load_finetuned(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (50, 170, 3), np.uint8)
    (first,), (again,) = segmenter.predict([picture]), loaded.predict([picture])
    assert first.shape == (50, 170)
    assert np.array_equal(first, again)


def test_load_finetuned_raises_for_other_folders(shapes, tmp_path):
    with pytest.raises(NearfarError, match="holds no fine-tuned network"):
        load_finetuned(tmp_path)
    train, _ = shapes
    model = finetune_classifier(ALEXNET.build(), train, "fc", CONFIG, device="cpu")
    model.save(tmp_path / "fc")
    assert load_finetuned(tmp_path).protocol == "fc"
    model.save(tmp_path / "all")
    with pytest.raises(NearfarError, match=r"several networks: expected one of .*all, .*fc$"):
        load_finetuned(tmp_path)
    config = tmp_path / "fc" / "finetuned.json"
    written = json.loads(config.read_text())
    for change, says in [
        ({"format": 99}, "install a newer one"),
        ({"classes": ["a"]}, "is damaged"),
        ({"task": "magic"}, "is damaged"),
        ({"backbone": {**written["backbone"], "widths": [10**12]}}, "no memory"),
        ({"backbone": {**written["backbone"], "widths": [-1]}}, "widths"),
    ]:
        config.write_text(json.dumps({**written, **change}))
        with pytest.raises(NearfarError, match=says) as caught:
            load_finetuned(tmp_path / "fc")
        assert "\n" not in str(caught.value)
    config.write_text(json.dumps(written))
    (tmp_path / "fc" / "finetuned.safetensors").write_bytes(b"")
    with pytest.raises(NearfarError, match="is damaged"):
        load_finetuned(tmp_path / "fc")


def test_write_predictions_of_detector(devkit, detector, tmp_path, monkeypatch):
    whole = np.array([[0, 0, 128, 96]], np.float32)
    monkeypatch.setattr("nearfar.transfer.detection.selective_search", lambda picture: whole)
    images = open_images(devkit.root / "JPEGImages", channels=3)
    write_predictions(detector, images, tmp_path)
    written = json.loads((tmp_path / "detections.json").read_text())
    assert written["classes"] == ["disc", "square", "triangle"]
    assert [each["name"] for each in written["images"]] == images.names()
    for each in written["images"]:
        for found in each["detections"]:
            assert set(found) == {"class", "score", "box"}
        with Image.open(tmp_path / "drawn" / f"{each['name']}.png") as drawn:
            assert drawn.size == (128, 96)


def test_write_predictions_of_arrays(segmenter, tmp_path):
    images = ArrayImages(torch.rand(3, 1, 70, 90))
    write_predictions(segmenter, images, tmp_path)
    with Image.open(tmp_path / "masks" / "2.png") as mask:
        assert (mask.mode, mask.size) == ("P", (90, 70))
    assert json.loads((tmp_path / "classes.json").read_text())["0"] == "background"


def test_predict_command(tmp_path, capsys):
    shapes = write_classes(tmp_path / "shapes", 6)
    fast = ("--steps", 2, "--batch-size", 2, "--device", "cpu", "--size", 64)
    call = ("transfer", "classify", "random", shapes, "--out", tmp_path / "c")
    assert run(*call, "--protocols", "all", *fast) == 0
    predict = ("transfer", "predict", tmp_path / "c", shapes, "--out", tmp_path / "p")
    assert run(*predict, "--device", "cpu") == 0
    assert "18 images" in capsys.readouterr().out
    with (tmp_path / "p" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["name"] == "disc/0000.jpg"
    for row in rows:
        probabilities = [float(row[name]) for name in ("disc", "square", "triangle")]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert float(row[row["class"]]) == max(probabilities)
    assert run(*predict) == 2
    assert "exists already" in capsys.readouterr().err


def test_predict_command_writes_label_maps(devkit, tmp_path):
    fast = ("--steps", 1, "--batch-size", 1, "--device", "cpu", "--size", 64)
    call = ("transfer", "segment", "random", devkit.root, "--out", tmp_path / "s")
    assert run(*call, *fast) == 0
    image = devkit.image("scene_0001")
    predict = ("transfer", "predict", tmp_path / "s", image, "--out", tmp_path / "p")
    assert run(*predict, "--device", "cpu") == 0
    with Image.open(tmp_path / "p" / "masks" / "scene_0001.jpg.png") as mask:
        assert (mask.mode, mask.size) == ("P", (128, 96))


def test_output_folder_is_created_before_training(devkit, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")

    def fail(*_, **__):
        raise AssertionError("trained before the folder was checked")

    monkeypatch.setattr("nearfar.transfer.tasks.finetune_segmenter", fail)
    original = Path.mkdir

    def refuse(self, *arguments, **options):
        if self == tmp_path / "out":
            raise PermissionError(13, "Permission denied", str(self))
        original(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    call = ("transfer", "segment", "random", devkit.root, "--size", 64, "--device", "cpu")
    assert run(*call, "--out", tmp_path / "out") == 2
    assert "out': permission denied" in capsys.readouterr().err
    assert run(*call, "--out", tmp_path / "file" / "out") == 2
    assert "out': Not a directory" in capsys.readouterr().err
