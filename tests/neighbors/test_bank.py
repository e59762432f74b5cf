"""Banks in memory and on disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nearfar.errors import NearfarError
from nearfar.neighbors import Bank, DiskBank, allocate_rows, fit_similarity
from nearfar.neighbors import bank as bank_module


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(bank_module, "SHARD_BYTES", 2**15)


def on_disk(folder: Path, n: int, d: int) -> DiskBank:
    DiskBank.create(folder, n, d)
    return DiskBank(folder, n, d)


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_rows_start_as_zeros_and_keep_what_is_written(tmp_path: Path, kind):
    bank: Bank = on_disk(tmp_path / "bank", 7, 3) if kind == "disk" else allocate_rows(7, 3)
    assert torch.equal(bank[:], torch.zeros(7, 3))
    bank[torch.tensor([2, 6])] = torch.tensor([[5.0, 5, 5], [1, 2, 3]])
    assert bank[torch.tensor([2])].tolist() == [[5, 5, 5]]
    assert bank[5:].tolist() == [[0, 0, 0], [1, 2, 3]]
    assert bank[:].dtype == torch.float32


def test_rows_of_many_shards_are_read_in_any_order(tmp_path: Path):
    embeddings = torch.randn(1000, 128, generator=torch.Generator().manual_seed(0)).half().float()
    bank = on_disk(tmp_path / "bank", 1000, 128)
    assert len(list((tmp_path / "bank").iterdir())) == 8
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(1))
    bank[order] = embeddings[order]
    assert torch.equal(bank[:], embeddings)
    assert torch.equal(bank[100:300], embeddings[100:300])
    assert torch.equal(bank[990:2000], embeddings[990:])
    rows = order[:60].view(3, 20)
    assert torch.equal(bank[rows], embeddings[rows])
    assert bank[rows[:0]].shape == (0, 20, 128)


def test_a_large_bank_does_not_keep_more_files_open_than_a_process_may(tmp_path: Path):
    rows = torch.tensor([0, 5, 3_999_999])
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        bank = on_disk(tmp_path / "bank", 4_000_000, 1)
        bank[rows] = torch.tensor([[1.0], [2], [3]])
        bank.flush()
        assert bank[rows].squeeze(1).tolist() == [1, 2, 3]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_numpy_reads_the_shards(tmp_path: Path):
    bank = on_disk(tmp_path / "bank", 300, 100)
    embeddings = torch.arange(30_000.0).view(300, 100) / 32
    bank[torch.arange(300)] = embeddings
    shards = [np.load(path) for path in sorted((tmp_path / "bank").iterdir())]
    assert {shard.dtype.name for shard in shards} == {"float16"}
    np.testing.assert_array_equal(np.concatenate(shards), embeddings.numpy().astype(np.float16))


def test_reopened_rows_are_shared(tmp_path: Path):
    written = on_disk(tmp_path / "bank", 4, 2)
    reopened = DiskBank(tmp_path / "bank", 4, 2)
    written[torch.tensor([1])] = torch.tensor([[3.0, 3]])
    reopened[torch.tensor([2])] = torch.tensor([[4.0, 4]])
    assert torch.equal(written[:], reopened[:])
    assert written[:][:, 0].tolist() == [0, 3, 4, 0]


def test_numbers_too_large_for_half_precision_stay_finite(tmp_path: Path):
    bank = on_disk(tmp_path / "bank", 1, 2)
    bank[torch.tensor([0])] = torch.tensor([[1e6, -torch.inf]])
    assert bank[:].tolist() == [[65504, -65504]]


@pytest.mark.parametrize("name", ["centered-cosine", "gaussian"])
def test_a_similarity_learns_the_same_from_a_bank_on_disk(tmp_path, name, monkeypatch):
    monkeypatch.setattr(bank_module, "CHUNK", 70)
    embeddings = torch.rand(300, 100, generator=torch.Generator().manual_seed(0)).half().float()
    bank = on_disk(tmp_path / "bank", 300, 100)
    bank[torch.arange(300)] = embeddings
    here, there = fit_similarity(name, embeddings).state(), fit_similarity(name, bank).state()
    center = embeddings.mean(0)
    right = {"center": center, "variance": (embeddings - center).square().sum(1).mean()}
    for key in here:
        assert torch.equal(here[key], there[key])
        torch.testing.assert_close(here[key], right[key])


READ = """
import sys
from pathlib import Path
import torch
from nearfar.neighbors import DiskBank
from nearfar.neighbors import bank_chunks
from nearfar.training.estimate import peak_memory

bank = DiskBank(Path(sys.argv[1]), 60_000, 4096)
begun = peak_memory()
for rows in bank_chunks(bank):
    bank[torch.arange(60_000)[rows]] = bank[rows] + 1
generator = torch.Generator().manual_seed(0)
for rows in torch.randperm(60_000, generator=generator).split(4000):
    assert bank[rows].sum() == rows.numel() * 4096
print((peak_memory() - begun) // 2**20)
"""


SEARCH = """
import sys
from pathlib import Path
import torch
from nearfar.neighbors import ClusteredFinder, DiskBank, clustered_finder, fit_similarity, keys
from nearfar.neighbors import bank_chunks
from nearfar.training.estimate import peak_memory

keys.HELD_KEYS_BYTES = 0
clustered_finder.KMEANS_SAMPLE_PER_CLUSTER = 16
bank = DiskBank(Path(sys.argv[1]), 60_000, 4096)
embeddings = torch.rand(1000, 4096, generator=torch.Generator().manual_seed(0))
for rows in bank_chunks(bank):
    places = torch.arange(len(bank))[rows]
    bank[places] = embeddings[places % 1000]
begun = peak_memory()
finder = ClusteredFinder(1, 300).fit(bank, fit_similarity("cosine", bank))
for places in finder.query_order().split(4096):
    finder.search(bank[places], places)
print((peak_memory() - begun) // 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
@pytest.mark.parametrize(("script", "most"), [(READ, 450), (SEARCH, 950)], ids=["read", "searched"])
def test_memory_does_not_grow_with_the_bank(tmp_path: Path, monkeypatch, script, most):
    monkeypatch.undo()
    DiskBank.create(tmp_path / "bank", 60_000, 4096)
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "bank"], check=True, capture_output=True
    )
    assert int(done.stdout) < most, "MiB, of 469 on disk, or 938 in single precision"


def test_disk_bank_claims_its_space_at_once(tmp_path: Path):
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("this system cannot reserve disk space")
    on_disk(tmp_path / "bank", 1000, 1000)
    claimed = sum(path.stat().st_blocks * 512 for path in (tmp_path / "bank").iterdir())
    assert claimed >= 2_000_000


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path: Path):
    folder = tmp_path / "bank"
    with pytest.raises(NearfarError, match=r"no room for '.*bank': .* GiB are free"):
        DiskBank.create(folder, 10**9, 10**6)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_leaves_no_file(tmp_path: Path, monkeypatch):
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(NearfarError, match=r"cannot write '.*bank': No space left on device"):
        DiskBank.create(tmp_path / "bank", 10, 10)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(NearfarError, match="cannot write "):
        DiskBank.create(tmp_path / "file" / "bank", 1, 1)


def test_allocate_rows_refuses_more_than_memory():
    with pytest.raises(NearfarError, match=r"no memory for .* keep them on disk"):
        allocate_rows(10**9, 10**6)


def test_a_missing_shard_is_refused(tmp_path: Path):
    on_disk(tmp_path / "bank", 1000, 100)
    (tmp_path / "bank" / "00003.npy").unlink()
    with pytest.raises(NearfarError, match=r"cannot read .*00003.npy': No such file"):
        DiskBank(tmp_path / "bank", 1000, 100)


def test_damaged_and_foreign_shards_are_refused(tmp_path: Path):
    on_disk(tmp_path / "bank", 100, 10)
    path = tmp_path / "bank" / "00000.npy"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(NearfarError, match=r"not a complete .npy file"):
        DiskBank(tmp_path / "bank", 100, 10)
    path.write_bytes(b"")
    with pytest.raises(NearfarError, match=r"not a complete .npy file"):
        DiskBank(tmp_path / "bank", 100, 10)
    np.save(path, np.array([{"pickled": 1}]), allow_pickle=True)
    with pytest.raises(NearfarError, match=r"not a complete .npy file"):
        DiskBank(tmp_path / "bank", 100, 10)
    np.save(path, np.zeros((3, 2), np.float16))
    with pytest.raises(
        NearfarError, match=r"holds float16\[3, 2\]: expected embeddings, float16\[100, 10\]"
    ):
        DiskBank(tmp_path / "bank", 100, 10)
