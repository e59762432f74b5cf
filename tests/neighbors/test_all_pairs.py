"""All near pairs: exact for few embeddings, nearly all of many, in memory and memory-mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfar.errors import NearfarError
from nearfar.neighbors import near_pairs


def embeddings(n: int) -> np.ndarray:
    """Random directions, of which the second half are altered copies of the first."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(n // 2, 32))
    altered = first * rng.uniform(0.5, 2, (n // 2, 1)) + 0.1 * rng.normal(size=(n // 2, 32))
    return np.concatenate([first, altered]).astype(np.float32)


def test_pairs_of_few_are_exact() -> None:
    points = embeddings(600)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    similarity = unit @ unit.T
    expected = np.argwhere(np.triu(similarity >= 0.5, 1))
    found = near_pairs(points, 0.5)
    np.testing.assert_array_equal(found.pairs, expected)
    np.testing.assert_allclose(found.similarities, similarity[tuple(expected.T)], atol=1e-5)
    assert found.recall == 1
    assert len(expected) > 300


def test_pairs_of_many_are_nearly_all_found(tmp_path: Path) -> None:
    points = embeddings(20_000)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    found = near_pairs(mapped, 0.95)
    copies = found.pairs[:, 1] - found.pairs[:, 0] == 10_000
    true = 1 - (points[:10_000] * points[10_000:]).sum(1) / np.prod(
        [np.linalg.norm(half, axis=1) for half in np.split(points, 2)], axis=0
    )
    assert copies.sum() >= 0.97 * (true <= 0.05).sum() > 9000
    assert (found.similarities >= 0.95).all()
    assert len(np.unique(found.pairs, axis=0)) == len(found.pairs)
    assert found.recall == pytest.approx(copies.sum() / (true <= 0.05).sum(), abs=0.05)
    fewer = near_pairs(points, 0.95, probes=1)
    assert len(fewer.pairs) < len(found.pairs)
    assert fewer.recall < found.recall


def test_recall_is_unknown_without_pairs() -> None:
    assert np.isnan(near_pairs(np.eye(5, dtype=np.float32), 0.5).recall)


@pytest.mark.parametrize(
    ("points", "options", "says"),
    [
        (np.zeros((2, 3, 4)), {"threshold": 0.9}, r"shape \[2, 3, 4\]"),
        (np.eye(3), {"threshold": 1.5}, "threshold=1.5"),
        (np.eye(3), {"threshold": 0.5, "probes": 0}, "probes=0"),
        (np.full((3, 2), np.nan), {"threshold": 0.5}, "NaN or infinity in rows 0 to 2"),
    ],
)
def test_unusable_arguments_are_refused(points, options, says) -> None:
    with pytest.raises(NearfarError, match=says):
        near_pairs(points, **options)


def test_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.neighbors.all_pairs._MOST_PAIRS", 100)
    with pytest.raises(NearfarError, match="more than 100 pairs have a similarity of 0.5 or more"):
        near_pairs(np.ones((50, 2)), 0.5)
