"""Encoders by name: of a run, of timm, or their embeddings in a file."""

from __future__ import annotations

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from nearfar import NRE
from nearfar.data import ArrayImages, Subset, images_from_array, open_images
from nearfar.embeddings import read_embeddings, write_embeddings
from nearfar.encoders import open_encoder
from nearfar.errors import NearfarError
from nearfar.evaluation import evaluate_encoder
from nearfar.models import pretrained_encoder
from nearfar.search import encode, find_neighbors

LITE0 = "timm:tf_efficientnet_lite0"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos() -> ArrayImages:
    pixels = np.random.default_rng(0).random((30, 32, 32, 3), np.float32)
    return images_from_array(pixels, labels=np.arange(30) % 2, name="photos")


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    NRE(pretrain_epochs=1, epochs=1, clusters=2, device="cpu").fit(photos).save(folder)
    return folder


@pytest.fixture(scope="module", params=["embeddings.npz", "embeddings.parquet"])
def stored(request, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / request.param
    write_embeddings(path, encode(LITE0, photos, device="cpu"), photos)
    return path


@torch.no_grad()
def test_embeddings_are_those_of_the_encoder(photos, run, stored):
    expected = pretrained_encoder(LITE0)(photos.batch(range(30)))
    for encoder in (LITE0, open_encoder(LITE0), stored, open_encoder(str(stored))):
        np.testing.assert_allclose(encode(encoder, photos, device="cpu"), expected, atol=1e-5)
    random = open_encoder(LITE0, weights="random")
    assert random.name == "timm:tf_efficientnet_lite0 (random)"
    assert not np.allclose(random.embed(photos, device="cpu"), expected)
    assert open_encoder(run).run is not None
    assert encode(run, photos, device="cpu").shape == (30, 128)


def test_size_is_that_of_the_published_weights_or_chosen(run):
    assert open_encoder(LITE0).size == (224, 224)
    assert open_encoder(LITE0, size=64).open_array(np.zeros((1, 32, 32, 3))).shape == (3, 64, 64)
    assert open_encoder(run).size == (32, 32)


def test_neighbors_are_the_same_by_encoder_and_by_file(photos, stored):
    results = [find_neighbors(each, [3, 7], photos, count=4) for each in (LITE0, stored)]
    np.testing.assert_array_equal(results[0].near, results[1].near)
    with pytest.raises(NearfarError, match="queries that are among the images"):
        find_neighbors(
            stored, find_neighbors(LITE0, [3], photos).queries._replace(rows=np.array([-1])), photos
        )


def test_stored_embeddings_are_found_by_name(photos, stored):
    backwards = Subset(photos, np.arange(30)[::-1].copy())
    expected = encode(LITE0, photos, device="cpu")[::-1]
    np.testing.assert_allclose(encode(stored, backwards), expected, atol=1e-5)
    others = ArrayImages(np.zeros((200, 1, 8, 8), np.uint8))
    with pytest.raises(NearfarError, match=r"has no embedding of '000' of 'array'"):
        encode(stored, others)


def test_table_has_a_row_for_each_encoder(photos, run, stored):
    beside = [open_encoder(LITE0), open_encoder(stored)]
    table = evaluate_encoder(open_encoder(run), photos, beside=beside, device=CPU)
    assert list(table.rows) == ["pixels", "autoencoder", "NRE", LITE0, str(stored)]
    assert table.rows[LITE0] == table.rows[str(stored)]
    alone = evaluate_encoder(beside[0], photos, device=CPU)
    assert list(alone.rows) == ["pixels", LITE0]
    assert alone.rows[LITE0] == table.rows[LITE0]


@pytest.mark.parametrize(
    ("encoder", "options", "culprit"),
    [
        ("nowhere", {}, "'nowhere' does not exist"),
        ("timm:resnet19", {}, "timm has no model 'resnet19'"),
        (LITE0, {"weights": "kmeans"}, "weights='kmeans' for timm:"),
        (LITE0, {"weights": "none.pth"}, "none.pth"),
        ("run", {"weights": "random"}, "weights='random' for 'run', which has its own"),
        ("run", {"size": 64}, "size=64 for 'run', which has its own"),
    ],
)
def test_open_encoder_refuses(encoder, options, culprit):
    with pytest.raises(NearfarError, match=culprit) as caught:
        open_encoder(encoder, **options)
    assert "\n" not in str(caught.value)


def test_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros((3, 8, 8)))
    (tmp_path / "text.parquet").write_text("no table")
    for name in ("images.npz", "text.parquet"):
        with pytest.raises(NearfarError, match="is not a file of embeddings"):
            open_encoder(tmp_path / name)


def test_embeddings_that_are_nan_or_ambiguous_are_refused(photos, tmp_path):
    good = {"embeddings": np.ones((2, 4), np.float32), "names": np.array(["a", "b"])}
    bad = np.array([[1, 2], [np.nan, 4]], np.float32)
    for change in ({"embeddings": bad}, {"embeddings": np.ones((2, 4), int)}):
        np.savez(tmp_path / "bad.npz", **good | change)
        with pytest.raises(NearfarError, match=r"bad.npz' holds NaN or infinity, or no floats"):
            open_encoder(tmp_path / "bad.npz")
    np.savez(tmp_path / "twice.npz", **good | {"names": np.array(["a", "a"])})
    with pytest.raises(NearfarError, match="has 'a' more than once"):
        open_encoder(tmp_path / "twice.npz")


def test_embeddings_of_images_that_changed_are_refused(tmp_path):
    for number in range(3):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"{number}.png")
    path = tmp_path / "e.parquet"
    write_embeddings(path, np.ones((3, 4), np.float32), open_images(tmp_path))
    assert open_encoder(path).embed(open_images(tmp_path)).shape == (3, 4)
    changed = "another image named '1.png'"
    for color, size in (("red", 16), ("red", 12)):
        Image.new("RGB", (size, size), color).save(tmp_path / "1.png")
        images = Subset(open_images(tmp_path), [0, 1])
        with pytest.raises(NearfarError, match=changed):
            open_encoder(path).embed(images)


def test_embeddings_may_be_rewritten_by_pandas(tmp_path):
    images = images_from_array(np.zeros((3, 8, 8)))
    path = tmp_path / "e.parquet"
    write_embeddings(path, np.ones((3, 4), np.float32), images)
    table = parquet.read_table(path)
    numbers = pyarrow.array(table["embedding"].to_pylist(), pyarrow.list_(pyarrow.float64()))
    parquet.write_table(table.set_column(1, "embedding", numbers), path)
    assert read_embeddings(path).embeddings.dtype == np.float32
    numbers = pyarrow.array([[1.0], [1.0, 2.0], None], pyarrow.list_(pyarrow.float32()))
    parquet.write_table(table.set_column(1, "embedding", numbers), path)
    with pytest.raises(NearfarError, match="lacks embeddings, or they differ in length"):
        read_embeddings(path)


def test_model_that_does_not_take_images_of_a_size_says_so(photos):
    encoder = open_encoder("timm:swin_tiny_patch4_window7_224", weights="random")
    small = ArrayImages(np.zeros((2, 3, 30, 30), np.uint8))
    with pytest.raises(
        NearfarError, match=r"does not accept images of 30x30 pixels .*\(224, 224\)"
    ):
        encoder.embed(small, device="cpu")
