"""Indexes, stored embeddings as queries, and the files of other libraries."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from nearfar.data import FolderImages
from nearfar.encoders import open_encoder
from nearfar.errors import NearfarError
from nearfar.report import write_map
from nearfar.search import Index, encode_to, search_stored, write_index
from program import run

RESNET = "timm:resnet18"


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).standard_normal((50, 8), np.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of photos and the file of their embeddings."""
    root = tmp_path_factory.mktemp("data") / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for row in range(12):
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(root / f"{row:02}.png")
    stored = root.parent / "photos.parquet"
    encoder = open_encoder(RESNET, weights="random", size=32)
    encode_to(stored, encoder, FolderImages(root, size=32), device="cpu")
    return root, stored


@pytest.mark.parametrize("similarity", ["cosine", "gaussian", "centered-cosine"])
def test_index_finds_what_its_similarity_orders(points, similarity, tmp_path):
    Index(similarity).add(points[:30]).add(points[30:]).save(tmp_path / "index.parquet")
    index = Index.load(tmp_path / "index.parquet")
    assert index.similarity == similarity
    hits = index.search(points[:4] + 1, count=5)
    a, b = points[:4] + 1, points
    if similarity == "gaussian":
        order = ((a[:, None] - b) ** 2).sum(-1)
    else:
        center = 0 if similarity == "cosine" else b.mean(0)
        a, b = a - center, b - center
        order = -(a @ b.T) / np.linalg.norm(b, axis=1)
    np.testing.assert_array_equal(hits.near, order.argsort(1)[:, :5])
    np.testing.assert_array_equal(hits.far, (-order).argsort(1)[:, :5])


def test_names_exclude_themselves_and_are_unique(points):
    index = Index().add(points, [f"{row}.jpg" for row in range(50)])
    assert 3 not in index.search(["3.jpg"], count=49).near
    with pytest.raises(NearfarError, match="'x.jpg' is not in the index"):
        index.search(["x.jpg"])
    with pytest.raises(NearfarError, match="name '3.jpg' of two"):
        index.add(points[:1], ["3.jpg"])
    with pytest.raises(NearfarError, match=r"expected \[m, 8\]"):
        index.add(points[:, :4])


@pytest.mark.parametrize("similarity", ["cosine", "gaussian"])
def test_faiss_file_finds_the_same(points, similarity, tmp_path):
    faiss = pytest.importorskip("faiss")
    index = Index(similarity).add(points)
    write_index(tmp_path / "index.faiss", index)
    queries = points[:5]
    if similarity == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    found = faiss.read_index(str(tmp_path / "index.faiss")).search(queries, 4)[1]
    np.testing.assert_array_equal(found, index.search(points[:5], count=4).near)


def test_usearch_file_finds_the_same(points, tmp_path):
    usearch = pytest.importorskip("usearch.index")
    index = Index().add(points)
    write_index(tmp_path / "index.usearch", index)
    found = usearch.Index.restore(tmp_path / "index.usearch").search(points[:5], 4).keys
    np.testing.assert_array_equal(found, index.search(points[:5], count=4).near)


def test_queries_are_names_rows_images_and_files(photos):
    root, stored = photos
    result = search_stored(stored, ["03.png", "3", root / "03.png", str(stored)], count=1)
    assert result.queries[:3] == ["03.png", "03.png", "03.png"]
    assert len(result.queries) == 15
    names = [name for (name,) in result.near]
    assert names[0] == names[1] == names[2] != "03.png"
    assert names[3:] == [f"{row:02}.png" for row in range(12)]
    with pytest.raises(NearfarError, match="has rows 0 to 11 only"):
        search_stored(stored, ["12"])
    with pytest.raises(NearfarError, match="'nowhere' is not among the 12 images"):
        search_stored(stored, ["nowhere"])


def test_image_files_are_found_by_the_end_of_their_path_and_their_content(photos, tmp_path):
    root, stored = photos
    by_path = search_stored(stored, [root / "03.png"], count=11)
    assert by_path.near == search_stored(stored, ["03.png"], count=11).near
    folder = search_stored(stored, [root], count=11)
    assert not any(name in near for name, near in zip(folder.queries, folder.near, strict=True))
    other = tmp_path / "03.png"
    shutil.copy(root / "04.png", other)
    ((near,),) = search_stored(stored, [other], count=1).near
    assert near == "04.png"


def test_loading_an_encoder_shows_progress(photos, tmp_path):
    root, stored = photos
    Image.open(root / "04.png").rotate(90).save(tmp_path / "new.png")
    shown = []

    def track(items, description, total):
        shown.append(description)
        return items

    search_stored(stored, [tmp_path / "new.png"], count=1, track=track, device="cpu")
    assert shown[0] == "loading the encoder"
    assert "encoding" in shown
    write_map(tmp_path / "map.html", open_encoder(stored), FolderImages(root, size=32), track=track)
    assert "drawing the map" in shown


@pytest.mark.parametrize("similarity", ["cosine", "gaussian"])
def test_search_of_a_file_finds_what_the_index_finds(similarity, tmp_path):
    points = np.random.default_rng(0).standard_normal((3000, 300), np.float32)
    points[7] = 0
    names = [f"{row}.jpg" for row in range(len(points))]
    index = Index(similarity).add(points, names)
    index.save(tmp_path / "index.parquet")
    queries = ["2999.jpg", "0.jpg", "7.jpg"]
    ours, theirs = (
        search_stored(tmp_path / "index.parquet", queries, count=9),
        index.search(queries, 9),
    )
    for side in ("near", "far"):
        found = getattr(theirs, f"{side}_similarity")
        np.testing.assert_allclose(getattr(ours.hits, f"{side}_similarity"), found, atol=1e-6)
        rows = getattr(theirs, side)[:2]  # all are equally similar to zero
        np.testing.assert_array_equal(getattr(ours.hits, side)[:2], rows)
        assert getattr(ours, side)[0] == [names[row] for row in rows[0]]
    assert 7 not in ours.hits.near[2]
    many = search_stored(tmp_path / "index.parquet", names[:50], count=9)
    np.testing.assert_array_equal(many.hits.near[0], ours.hits.near[1])


def test_search_by_name_needs_no_torch(photos):
    program = (
        "import sys; from nearfar.cli import main; main(sys.argv[1:4] + ['03.png']); "
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    arguments = ["search", str(photos[1]), "--query"]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)


def test_embeddings_of_queries_must_be_numbers(tmp_path, points):
    points = points.copy()
    points[30, 2] = np.nan
    Index().add(points).save(tmp_path / "index.parquet")
    with pytest.raises(NearfarError, match="holds NaN or infinity: encode again"):
        search_stored(tmp_path / "index.parquet", ["3"], count=2)


def test_commands(photos, tmp_path, capsys):
    root, stored = photos
    out = tmp_path / "near.parquet"
    assert run("search", stored, "--query", "03.png", "--count", 2, "--out", out) == 0
    table = parquet.read_table(out).to_pydict()
    assert table["side"] == ["near", "near", "far", "far"]
    assert run("search", stored, "--query", table["file"][0], "--count", 2) == 0
    query, heads, first, *_ = capsys.readouterr().out.splitlines()[1:]
    assert query == table["file"][0]
    assert heads.split() == ["similarity", "file"]
    assert first.split()[1] == "03.png"
    pytest.importorskip("faiss")
    assert run("index", stored, "--out", tmp_path / "photos.faiss") == 0
    assert run("index", stored, "--out", tmp_path / "a.faiss", "--factory", "Magic") == 2
    assert "cannot build an index 'Magic'" in capsys.readouterr().err
    assert (
        run("neighbors", stored, root, "--query", root / "03.png", "--out", tmp_path / "near") == 0
    )
