"""Files of embeddings that are read without decoding, and those of other programs."""

from __future__ import annotations

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from nearfar.embeddings import EmbeddingFile, EmbeddingTable, read_embeddings, write_embedding_table
from nearfar.errors import NearfarError

VECTORS = np.random.default_rng(0).standard_normal((40_000, 5), np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("embeddings") / "e.parquet"
    names = [f"{row}.jpg" for row in range(len(VECTORS))]
    write_embedding_table(path, EmbeddingTable(VECTORS, names, settings={"encoder": "mine"}))
    return path


def check(path):
    file = EmbeddingFile(path)
    np.testing.assert_array_equal(file.read(), VECTORS)
    rows = file.find(["39999.jpg", "nowhere", "16384.jpg", "0.jpg", "\udcff.jpg"])
    assert rows.tolist() == [39999, -1, 16384, 0, -1]
    np.testing.assert_array_equal(file.take(rows[[0, 2, 3]]), VECTORS[[39999, 16384, 0]])
    assert file.names(rows[[2, 0]]) == ["16384.jpg", "39999.jpg"]


def test_vectors_are_read_without_decoding(path, monkeypatch):
    np.testing.assert_array_equal(
        np.stack(parquet.read_table(path)["embedding"].to_numpy()), VECTORS
    )
    monkeypatch.delattr(EmbeddingFile, "_decode")
    check(path)


@pytest.mark.parametrize(
    "options",
    [
        {},  # compressed
        {"compression": "none", "data_page_size": 10_000},  # several pages
        {"compression": "none", "use_dictionary": True},
        {
            "compression": "none",
            "use_byte_stream_split": ["embedding.list.element"],
            "use_dictionary": False,
        },
        {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"},
    ],
)
def test_vectors_of_other_programs_are_decoded(path, options, tmp_path):
    parquet.write_table(parquet.read_table(path), tmp_path / "e.parquet", **options)
    check(tmp_path / "e.parquet")


def test_vectors_that_may_be_null_are_decoded(path, tmp_path):
    table = parquet.read_table(path)
    nullable = pyarrow.list_(pyarrow.field("item", pyarrow.float32()), 5)
    table = table.set_column(1, "embedding", table["embedding"].cast(nullable))
    parquet.write_table(table, tmp_path / "e.parquet", compression="none", use_dictionary=False)
    check(tmp_path / "e.parquet")


def test_files_without_embeddings_are_errors(path, tmp_path):
    (tmp_path / "e.parquet").write_bytes(path.read_bytes()[:-9])
    for read in (EmbeddingFile, read_embeddings):
        with pytest.raises(NearfarError, match="is not a file of embeddings"):
            read(tmp_path / "e.parquet")
    with pytest.raises(NearfarError, match=r"expected a \.parquet of embeddings"):
        EmbeddingFile(tmp_path / "e.npz")
