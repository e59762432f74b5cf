"""Seeded mutation of what a file contains, in its format: it is still a whole file.

Damaged bytes end at the first check of a format: a checksum, a bracket. These mutators change a
value, an element or a member instead, and state lengths and checksums anew.
"""

from __future__ import annotations

import io
import json
import random
import struct
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import yaml

Bytes = Callable[[bytearray, random.Random], bytes]
Mutator = Callable[[bytes, random.Random, Bytes], bytes]

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 255, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e-9),
    *(1e308, float("nan"), float("inf"), "", "0", "1", "nan", "none", "auto", "a b", "caf\u00e9"),
    *("a\nb", "\0", "../..", "x" * 300, [], {}, [1], ["a", None], {"a": 1}, [[[]]], [0.1] * 50),
)
TEXTS = (
    "",
    " ",
    "0",
    "-1",
    "1",
    "3.5",
    "1e999",
    "nan",
    "99999999999",
    "dog",
    "a\nb",
    "\u00e9",
    "..",
)


def mutate_tree(tree: Any, rng: random.Random) -> Any:
    """Change, remove, copy or rename one value of nested mappings and lists."""
    places = list(_places(tree))
    if not places:
        return rng.choice(VALUES)
    parent, key = rng.choice(places)
    how = rng.random()
    if how < 0.5:
        parent[key] = rng.choice(VALUES)
    elif how < 0.65:
        del parent[key]
    elif how < 0.8:
        other, name = rng.choice(places)
        parent[key] = json.loads(json.dumps(other[name])) if name in _keys(other) else 0
    elif isinstance(parent, dict):
        parent[rng.choice((key.upper(), key.replace("_", "-"), f" {key}", "a", ""))] = parent[key]
    else:
        parent.insert(key, parent[key])
    return tree


def _places(tree: Any) -> Any:
    for key in _keys(tree):
        yield tree, key
        yield from _places(tree[key])


def _keys(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [key for key in tree if isinstance(key, str)]
    return list(range(len(tree))) if isinstance(tree, list) else []


def mutate_json(data: bytes, rng: random.Random, damage: Bytes) -> bytes:
    """Change a value of a JSON file."""
    return json.dumps(mutate_tree(json.loads(data), rng)).encode()


def mutate_yaml(data: bytes, rng: random.Random, damage: Bytes) -> bytes:
    """Change a value of a YAML file."""
    return yaml.safe_dump(mutate_tree(yaml.safe_load(data), rng), allow_unicode=True).encode()


def mutate_lines(data: bytes, rng: random.Random, damage: Bytes) -> bytes:
    """Remove, repeat, exchange or damage lines of a text."""
    lines = data.splitlines(keepends=True)
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(5)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines.insert(other, lines[at])
    elif how == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif how == 3:
        lines[at] = rng.choice((b"\n", b"  \n", b"# \n", lines[at].rstrip() + b"\r\n", b"a  -1\n"))
    else:
        lines[at] = (
            lines[at].rstrip() + rng.choice((b" 1", b" 0", b" -1", b" x", b"\t", b",")) + b"\n"
        )
    return b"".join(lines)


def mutate_xml(data: bytes, rng: random.Random, damage: Bytes) -> bytes:
    """Change, remove, copy, move or rename an element of an XML file."""
    root = ET.fromstring(data)  # noqa: S314 (written by the tests)
    parents = [(parent, child) for parent in root.iter() for child in parent]
    parent, child = rng.choice(parents)
    how = rng.random()
    if how < 0.5:
        leaf = rng.choice([each for each in root.iter() if not len(each)])
        leaf.text = rng.choice(TEXTS)
    elif how < 0.65:
        parent.remove(child)
    elif how < 0.8:
        parent.append(child)
    elif how < 0.9:
        rng.choice(parents)[1].append(ET.fromstring(ET.tostring(child)))  # noqa: S314
    else:
        child.tag = rng.choice(("a", child.tag.upper(), "object", "bndbox", "xmin"))
    return ET.tostring(root)


def mutate_png(data: bytes, rng: random.Random, damage: Bytes) -> bytes:
    """Damage, remove, repeat or exchange chunks of a PNG file, whose checksums are right."""
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    number = rng.randrange(len(chunks))
    kind, body = chunks[number]
    how = rng.random()
    if how < 0.1:
        del chunks[number]
    elif how < 0.2:
        chunks.insert(rng.randrange(len(chunks)), chunks[number])
    elif how < 0.3 and kind == b"IDAT":
        pixels = damage(bytearray(zlib.decompress(body)), rng) if len(body) else b""
        chunks[number] = kind, zlib.compress(pixels)
    else:
        chunks[number] = kind, damage(bytearray(body), rng)
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def mutate_zip(data: bytes, rng: random.Random, damage: Bytes) -> bytes:
    """Damage, remove, repeat or rename a member of an archive, whose checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    number = rng.randrange(len(members))
    name, body = members[number]
    how = rng.random()
    if how < 0.1:
        del members[number]
    elif how < 0.3:
        other = rng.choice((*(each for each, _ in members), "a.npy", "y.npy", "a", "images.npy"))
        members[number] = other, body
    elif name.endswith(".npy"):
        members[number] = name, mutate_npy(body, rng, damage)
    else:
        members[number] = name, damage(bytearray(body), rng)
    target = io.BytesIO()
    names = set()
    with zipfile.ZipFile(target, "w") as archive:
        for each, content in members:
            if each not in names:
                archive.writestr(each, content)
            names.add(each)
    return target.getvalue()


def mutate_npy(data: bytes, rng: random.Random, damage: Bytes) -> bytes:
    """Change what the header of an array says, or numbers of the array."""
    (length,) = struct.unpack("<H", data[8:10])
    header, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    how = rng.random()
    if how < 0.3:
        return data[: 10 + length] + damage(bytearray(body), rng)
    old = header[header.index("'descr': ") + 9 : header.index(", 'fortran")]
    shape = header[header.index("(") : header.index(")") + 1]
    if how < 0.6:
        types = ("|u1", "|i1", "<u2", ">u2", "<i8", "<f2", "<f4", ">f4", "<f8", "|b1", "<c8", "|O")
        header = header.replace(old, repr(rng.choice((*types, "<U3", "<M8[s]", "|S4", "|V3"))))
    elif how < 0.7:
        header = header.replace("False", "True")
    else:
        sides = shape.strip("()").replace(" ", "").rstrip(",").split(",")
        rng.choice((sides.reverse, lambda: rng.shuffle(sides), lambda: sides.append("1")))()
        if rng.random() < 0.5:
            sides[rng.randrange(len(sides))] = rng.choice(("0", "1", "-1", "4", "99999999", "2"))
        header = header.replace(shape, f"({','.join(sides)},)")
    encoded = (header.rstrip() + "\n").encode("latin-1")
    return data[:8] + struct.pack("<H", len(encoded)) + encoded + body


def mutate_safetensors(data: bytes, rng: random.Random, damage: Bytes) -> bytes:
    """Change a value of the header of a safetensors file, or some weights."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.4:
        return data[: 8 + length] + damage(bytearray(body), rng)
    header = mutate_json(header, rng, damage)
    return struct.pack("<Q", len(header)) + header + body


#: Mutators by the start of a file.
SIGNATURES: tuple[tuple[bytes, Mutator], ...] = (
    (b"\x89PNG", mutate_png),
    (b"PK\3\4", mutate_zip),
    (b"\x93NUMPY", mutate_npy),
)
#: Mutators by the extension of a file.
EXTENSIONS: dict[str, Mutator] = {
    ".json": mutate_json,
    ".yaml": mutate_yaml,
    ".xml": mutate_xml,
    ".txt": mutate_lines,
    ".csv": mutate_lines,
    ".jsonl": mutate_lines,
    ".safetensors": mutate_safetensors,
}


def mutate_content(data: bytes, extension: str, rng: random.Random, damage: Bytes) -> bytes | None:
    """Change what a file contains; return None if its format is unknown, or it is damaged.

    Parameters
    ----------
    damage : callable
        Mutator of bytes, for parts that have no structure.
    """
    known = [each for start, each in SIGNATURES if data.startswith(start)]
    mutator = known[0] if known else EXTENSIONS.get(extension)
    if mutator is None or not data:
        return None
    try:
        return mutator(data, rng, damage)
    except (ValueError, KeyError, IndexError, struct.error, zlib.error, ET.ParseError):
        return None
    except (zipfile.BadZipFile, yaml.YAMLError, NotImplementedError):
        return None
