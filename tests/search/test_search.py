"""Search as a library."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nearfar import NRE
from nearfar.data import ArrayImages, open_images
from nearfar.errors import NearfarError
from nearfar.runs import read_run
from nearfar.search import MAX_QUERIES, encode, find_neighbors, open_queries


@pytest.fixture(scope="module")
def model(tmp_path_factory, digits):
    """An estimator and its run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    estimator = NRE(epochs=1, clusters=4, batch_size=64, device="cpu").fit(digits[:200])
    estimator.save(folder)
    return estimator, read_run(folder)


def test_encode_equals_transform(model, digits):
    estimator, run = model
    embeddings = encode(run, digits[:50], device="cpu")
    np.testing.assert_allclose(embeddings, estimator.transform(digits[:50]), rtol=1e-5, atol=1e-6)


def test_find_neighbors_orders_by_similarity_without_the_query(model, digits):
    images = ArrayImages(digits[:100, None])
    result = find_neighbors(model[1], [3, 14], images, count=7, device="cpu")
    unit = encode(model[1], images, device="cpu").astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similarity = unit[[3, 14]] @ unit.T
    similarity[[0, 1], [3, 14]] = np.nan
    np.testing.assert_allclose(
        result.near_similarity, -np.sort(-similarity)[:, :7], rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(
        result.far_similarity, np.sort(similarity)[:, :7], rtol=1e-3, atol=1e-4
    )
    assert 3 not in result.near[0]
    assert 14 not in result.near[1]
    assert result.pixels(result.far).shape == (2, 7, 1, 8, 8)
    first = result.to_dict()["queries"][0]["near"][0]
    assert first["row"] == result.near[0, 0]
    assert first["name"] == images.names()[result.near[0, 0]]


def test_open_queries_by_row_path_and_source(digits, tmp_path):
    (tmp_path / "photos").mkdir()
    for row in range(4):
        Image.fromarray(digits[row]).save(tmp_path / "photos" / f"{row}.png")
    Image.fromarray(digits[9]).save(tmp_path / "other.png")
    images = open_images(tmp_path / "photos")
    paths = [tmp_path / "photos" / "1.png", tmp_path / "other.png"]
    queries = open_queries([2, "3", *paths, "0.png"], images)
    assert queries.rows.tolist() == [2, 3, 1, -1, 0]
    assert queries.names == ["2", "3", "1.png", f"{paths[1]}: other.png", "0.png"]
    np.testing.assert_allclose(queries.pixels[3, 0], digits[9] / 255, atol=1e-6)


def test_open_queries_takes_a_row_although_a_file_has_its_name(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(digits[9]).save(tmp_path / "2.png")
    (tmp_path / "2.png").rename(tmp_path / "2")
    assert open_queries([2], ArrayImages(digits[:5, None])).rows.tolist() == [2]


def test_a_name_of_digits_is_a_name(digits, tmp_path):
    for row, name in enumerate(("3", "0", "1", "2")):
        Image.fromarray(digits[row]).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.png").rename(tmp_path / name)
    (tmp_path / "images.csv").write_text("path\n3\n0\n1\n2\n")
    images = open_images(tmp_path / "images.csv")
    assert open_queries(["0", 0], images).rows.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("queries", "says"),
    [
        ([], "no queries"),
        ([5], "images 0 to 4"),
        ([-1], "images 0 to 4"),
        (["nowhere"], "nowhere"),
        ([0] * (MAX_QUERIES + 1), "at most 32"),
    ],
)
def test_open_queries_raises(queries, says, digits):
    with pytest.raises(NearfarError, match=says):
        open_queries(queries, ArrayImages(digits[:5, None]))
