"""Parts of a large set of embeddings; each part is a Parquet file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import parquet

from nearfar.embeddings.layout import GROUP, settings_of
from nearfar.errors import NearfarError
from nearfar.files import ADVICE

_PART = re.compile(r"part-(\d{5})-of-(\d{5})\.parquet")

#: Rows per part: a 64th of the images, in whole encoding batches, within these bounds. Parts do not
#: depend on the number of processes.
_PARTS, _LEAST, _MOST = 64, 256, GROUP


@dataclass(frozen=True)
class EmbeddingParts:
    """Names and row ranges of the Parquet files that together hold the embeddings of n images.

    The part boundaries depend only on n. Therefore a resumed process, or several processes in
    parallel, write the same files.

    Parameters
    ----------
    folder : Path
        Folder of the parts. The folder name ends in .parquet, so that other programs open the
        folder as one table.
    n : int
        Number of images.

    Examples
    --------
    >>> parts = EmbeddingParts(Path("photos.parquet"), 1000)
    >>> parts.bounds()
    [range(0, 256), range(256, 512), range(512, 768), range(768, 1000)]
    >>> parts.path(3).name
    'part-00003-of-00004.parquet'
    """

    folder: Path
    n: int

    def bounds(self) -> list[range]:
        """Return the range of rows in each part."""
        rows = min(max(_LEAST * -(-self.n // (_PARTS * _LEAST)), _LEAST), _MOST)
        return [range(start, min(start + rows, self.n)) for start in range(0, self.n, rows)]

    def path(self, part: int) -> Path:
        """Return the path of the part with the given index."""
        return self.folder / f"part-{part:05}-of-{len(self.bounds()):05}.parquet"

    def is_complete(self) -> bool:
        """Return whether all parts exist."""
        return all(self.path(part).is_file() for part in range(len(self.bounds())))

    def is_written(self, part: int, names: Sequence[str], settings: Mapping[str, Any]) -> bool:
        """Return whether the part with the given index exists, and check its content.

        Raises
        ------
        NearfarError
            If the part exists, but with image names other than `names` or encoder settings other
            than `settings`.
        """
        path = self.path(part)
        if not path.is_file():
            return False
        same = settings_of(parquet.read_schema(path)) == json.loads(json.dumps(settings))
        if same and parquet.read_table(path, columns=["file"])["file"].to_pylist() == list(names):
            return True
        raise NearfarError(
            f"{str(path)!r} holds embeddings of other images, or by another encoder: {ADVICE}"
        )

    def others(self) -> list[Path]:
        """Return the paths of parts in the folder that belong to a different number of images."""
        own = {self.path(part) for part in range(len(self.bounds()))}
        present = self.folder.glob("part-*.parquet")
        return [path for path in present if _PART.fullmatch(path.name) and path not in own]


def parts_of(folder: Path) -> list[Path]:
    """Return the paths of the .parquet files in a folder; raise an error if a part is missing."""
    parts = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    if not parts:
        raise NearfarError(f"{str(folder)!r} contains no .parquet files")
    totals = _totals(parts)
    if totals and not has_all_parts(folder):
        raise NearfarError(
            f"{str(folder)!r} is incomplete, with {len(totals)} of {max(totals)} parts: run the "
            "same nearfar encode again, which continues"
        )
    return parts


def has_all_parts(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder contains all parts of a set of embeddings.

    Each file name states the total number of parts, as in "part-00003-of-00004.parquet".

    Examples
    --------
    >>> has_all_parts("nowhere.parquet")
    False
    """
    totals = _totals(Path(folder).glob("part-*.parquet"))
    return set(totals) == {len(totals)}


def _totals(parts: Iterable[Path]) -> list[int]:
    """Return the total number of parts given in each name, such as 4 in "part-00003-of-00004"."""
    return [int(match[2]) for path in parts if (match := _PART.fullmatch(path.name))]
