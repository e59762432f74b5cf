"""Files of embeddings: Parquet, in one file or in parts, and .npz; imports no torch.

`table` has the columns, and reads and writes whole files; `file` reads single rows without decoding
the others, by the positions that `layout` finds; `parts` writes a file in resumable parts.
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
