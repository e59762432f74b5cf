"""Files of embeddings: .npz, and Parquet in one file or in parts; does not import torch.

`table` reads and writes whole files. `file` reads single rows without decoding the others, at
positions found by `layout`. `parts` writes embeddings in resumable parts.
"""

from nearfar.embeddings.file import EmbeddingFile
from nearfar.embeddings.parts import EmbeddingParts, has_all_parts
from nearfar.embeddings.table import (
    EMBEDDINGS_ENDINGS,
    EmbeddingTable,
    check_embeddings_path,
    image_checksums,
    read_embeddings,
    write_embedding_table,
    write_embeddings,
)

__all__ = [
    "EMBEDDINGS_ENDINGS",
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
