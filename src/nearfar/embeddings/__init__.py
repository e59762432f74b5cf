"""Files of embeddings: .npz files, Parquet files, and folders of Parquet files.

`table` reads and writes whole files. `file` reads single rows of a Parquet file at the positions
that `layout` finds, without decoding the other rows. `parts` names the files of embeddings that
are written part by part, so that writing can be resumed. The package does not import torch.
"""

from nearfar.embeddings.parts import EmbeddingParts, has_all_parts
from nearfar.embeddings.reader import EmbeddingFile
from nearfar.embeddings.table import (
    EMBEDDINGS_EXTENSIONS,
    EmbeddingTable,
    check_embeddings_path,
    image_checksums,
    read_embeddings,
    write_embedding_table,
    write_embeddings,
)

__all__ = [
    "EMBEDDINGS_EXTENSIONS",
    "EmbeddingFile",
    "EmbeddingParts",
    "EmbeddingTable",
    "check_embeddings_path",
    "has_all_parts",
    "image_checksums",
    "read_embeddings",
    "write_embedding_table",
    "write_embeddings",
]
