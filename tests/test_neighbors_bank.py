"""Room for codes in memory and on disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from nearfar.errors import NearfarError
from nearfar.neighbors import allocate_rows, open_rows


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_start_as_zeros_and_keep_what_is_written(tmp_path: Path, on_disk):
    rows = allocate_rows(7, 3, tmp_path / "bank.npy" if on_disk else None)
    assert rows.dtype == torch.float32
    assert torch.equal(rows, torch.zeros(7, 3))
    rows[2] = 5
    assert rows[2].tolist() == [5, 5, 5]


def test_numpy_reads_the_file(tmp_path: Path):
    rows = allocate_rows(4, 2, tmp_path / "bank.npy")
    rows.copy_(torch.arange(8.0).view(4, 2))
    read = np.load(tmp_path / "bank.npy", allow_pickle=False)
    assert read.tolist() == rows.tolist()


def test_reopened_rows_are_shared(tmp_path: Path):
    written = allocate_rows(4, 2, tmp_path / "bank.npy")
    reopened = open_rows(tmp_path / "bank.npy")
    written[1] = 3
    reopened[2] = 4
    assert torch.equal(written, reopened)
    assert written[:, 0].tolist() == [0, 3, 4, 0]


def test_an_earlier_file_is_replaced(tmp_path: Path):
    path = tmp_path / "bank.npy"
    earlier = allocate_rows(9, 900, path).fill_(1)
    assert torch.equal(allocate_rows(2, 3, path), torch.zeros(2, 3))
    assert earlier.sum() == 8100  # who has the earlier file open keeps it
    assert open_rows(path).shape == (2, 3)


def test_the_disk_space_is_claimed_at_once(tmp_path: Path):
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("this system cannot reserve disk space")
    path = tmp_path / "bank.npy"
    rows = allocate_rows(1000, 1000, path)
    assert path.stat().st_blocks * 512 >= rows.nbytes


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path: Path):
    path = tmp_path / "bank.npy"
    with pytest.raises(NearfarError, match=r"no room for '.*bank.npy': .* GiB are free"):
        allocate_rows(10**9, 10**6, path)
    assert not path.exists()


def test_a_disk_that_fills_up_meanwhile_leaves_no_file(tmp_path: Path, monkeypatch):
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    path = tmp_path / "bank.npy"
    with pytest.raises(NearfarError, match=r"cannot write '.*bank.npy': No space left on device"):
        allocate_rows(10, 10, path)
    assert not path.exists()


def test_a_missing_folder_and_a_folder_as_file_are_refused(tmp_path: Path):
    with pytest.raises(NearfarError, match=r"cannot write .*: No such file or directory"):
        allocate_rows(1, 1, tmp_path / "missing" / "bank.npy")
    with pytest.raises(NearfarError, match="cannot write "):
        allocate_rows(1, 1, tmp_path)
    assert tmp_path.is_dir()


def test_more_codes_than_memory_are_refused():
    with pytest.raises(NearfarError, match=r"no memory for .* keep them on disk"):
        allocate_rows(10**9, 10**6)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(NearfarError, match=r"cannot read .*none.npy': No such file"):
        open_rows(tmp_path / "none.npy")


def test_damaged_and_foreign_files_are_refused(tmp_path: Path):
    path = tmp_path / "bank.npy"
    allocate_rows(100, 10, path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(NearfarError, match=r"not a complete .npy file"):
        open_rows(path)
    path.write_bytes(b"")
    with pytest.raises(NearfarError, match=r"not a complete .npy file"):
        open_rows(path)
    np.save(path, np.array([{"pickled": 1}]), allow_pickle=True)
    with pytest.raises(NearfarError, match=r"not a complete .npy file"):
        open_rows(path)
    np.save(path, np.zeros((3, 2), np.float64))
    with pytest.raises(
        NearfarError, match=r"holds float64\[3, 2\]: expected codes, float32\[n, d\]"
    ):
        open_rows(path)
