"""Seeded mutation of the files in a folder."""

from __future__ import annotations

import random
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

from readers.structure import mutate_content

#: Numbers that programs get wrong, for places where text has a number.
TEXT_NUMBERS = (
    *(b"0", b"-1", b"1", b"2", b"7", b"255", b"256", b"65535", b"65536", b"2147483648"),
    *(b"-9223372036854775809", b"1e999", b"-1e999", b"nan", b"NaN", b"Infinity", b"0.5", b"1e-9"),
    *(b"", b"null", b'"1"', b"[1]", b"{}", b"true", b"3.0", b"007", b"0x10"),
)
INTEGERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, -1)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
#: Part of a file where most of its structure is, in bytes.
HEAD = 200

Mutator = Callable[[bytearray, random.Random], bytes]


def _place(data: bytearray, rng: random.Random) -> int:
    """Choose a place, every other time near the start."""
    size = len(data) if rng.random() < 0.5 else min(len(data), HEAD)
    return rng.randrange(size) if size else 0


def _flip(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _noise(data: bytearray, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 2, 4, 16, 256))
    data[at : at + size] = rng.randbytes(size)
    return bytes(data)


def _integer(data: bytearray, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 2, 4, 8))
    value = rng.choice(INTEGERS) % 2 ** (8 * size)
    data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
    return bytes(data)


def _zeros(data: bytearray, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 4, 64, 4096))
    data[at : at + size] = bytes(len(data[at : at + size]))
    return bytes(data)


def _delete(data: bytearray, rng: random.Random) -> bytes:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 64, 1024))]
    return bytes(data)


def _insert(data: bytearray, rng: random.Random) -> bytes:
    at = _place(data, rng)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 64)))
    return bytes(data)


def _repeat(data: bytearray, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 8, 128, 4096))
    data[at:at] = data[at : at + size] * rng.choice((1, 1, 3, 50))
    return bytes(data)


def _truncate(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: _place(data, rng)])


def _append(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data) + rng.choice((b"\n", b"\0" * 100, bytes(data), rng.randbytes(30)))


def _empty(data: bytearray, rng: random.Random) -> bytes:
    return b""


def _text_number(data: bytearray, rng: random.Random) -> bytes:
    found = list(NUMBER.finditer(data, 0, 4096)) if b"\0" not in data[:64] else []
    found = found or list(NUMBER.finditer(data, 0, HEAD))
    if not found:
        return _noise(data, rng)
    match = rng.choice(found)
    data[match.start() : match.end()] = rng.choice(TEXT_NUMBERS)
    return bytes(data)


def _encoding(data: bytearray, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return b"\xef\xbb\xbf" + bytes(data)
    return bytes(data).decode("latin-1").encode(rng.choice(("utf-16", "utf-8")))


MUTATORS: tuple[Mutator, ...] = (
    *(_flip, _flip, _noise, _integer, _integer, _zeros, _delete, _insert, _repeat, _truncate),
    *(_append, _empty, _text_number, _text_number, _encoding),
)


def _damage(data: bytearray, rng: random.Random) -> bytes:
    return rng.choice(MUTATORS)(data, rng)


#: New names for files.
NAMES = (
    *("a b", " a", "a ", "-a", "--out", "\u00e9", "e\u0301", "a\nb", "a\tb", "\ufeffa", "*", "%s"),
    *("[bold]", "'", '"', "\udcff", "x" * 200, "CON", "a.b.c", "~", "$HOME", "a;b", "\u202e"),
)
EXTENSIONS = ("", ".png", ".jpg", ".PNG", ".npy", ".heic", ".txt", ".json", ".tif", ".mp4", ".xml")


def _rename(path: Path, rng: random.Random) -> None:
    stem = rng.choice((*NAMES, path.stem, unicodedata.normalize("NFD", path.stem)))
    extension = rng.choice((path.suffix, path.suffix, rng.choice(EXTENSIONS)))
    target = path.with_name((stem + extension) or "none")
    if not target.exists():
        path.rename(target)


def _to_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _to_link(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(rng.choice((path, path.parent, path.with_name("absent"))))


def _remove(path: Path, rng: random.Random) -> None:
    path.unlink()


def _copy(path: Path, rng: random.Random) -> None:
    target = path.with_name(rng.choice(NAMES) + path.suffix)
    if not target.exists():
        shutil.copyfile(path, target)


FILE_MUTATORS = (_rename, _rename, _to_folder, _to_link, _remove, _copy)


def mutate(folder: Path, rng: random.Random, *, rename: bool = True) -> None:
    """Damage one to three files below a folder.

    Parameters
    ----------
    rename : bool
        Whether files may also be renamed, removed, copied, or replaced by folders and links.
    """
    for _ in range(rng.choice((1, 1, 2, 3))):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            return
        path = rng.choice(files)
        if rename and rng.random() < 0.15:
            rng.choice(FILE_MUTATORS)(path, rng)
        elif rng.random() < 0.05:
            path.write_bytes(rng.choice(files).read_bytes())
        else:
            data = path.read_bytes()
            whole = rng.random() < 0.5
            changed = mutate_content(data, path.suffix, rng, _damage) if whole else None
            path.write_bytes(_damage(bytearray(data), rng) if changed is None else changed)
