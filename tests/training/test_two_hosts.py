"""Two hosts with their own addresses and one shared folder: network namespaces joined by a wire."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from nearfar import runs
from nearfar.embeddings import read_embeddings
from trainings import weights

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("two-hosts")]

IP = shutil.which("ip") or "ip"
WIRE, PORT = "nearfar0", 29_511
#: nearfar, which does not wait half an hour for a lost host.
IMPATIENT = """
from datetime import timedelta
from nearfar.training import distributed
distributed.TIMEOUT = timedelta(seconds=15)
from nearfar.cli import main
main()
"""
TRAIN = "--pretrain-epochs 2 --batch-size 4 --device cpu --epochs".split()


class Host(NamedTuple):
    """A network namespace, and its number, 0 or 1."""

    name: str
    number: int

    @property
    def address(self) -> str:
        return f"10.77.0.{self.number + 1}"

    def ip(self, *words: str) -> None:
        subprocess.run([IP, "-n", self.name, *words], check=True)

    def start(self, script: Path, arguments: list[object], log: Path) -> subprocess.Popen[bytes]:
        """Start one process of two, which meet at the first host's address."""
        torchrun = [
            *(IP, "netns", "exec", self.name, sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes", "2", "--nproc-per-node", "1", "--local-addr", self.address),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"10.77.0.1:{PORT}", "--rdzv-id", "two"),
            # Both namespaces have the name of this machine.
            *("--rdzv-conf", f"is_host={int(self.number == 0)}"),
        ]
        with log.open("w") as file:
            return subprocess.Popen(
                [*torchrun, script, *map(str, arguments)],
                env=os.environ | {"GLOO_SOCKET_IFNAME": WIRE},
                stdout=file,
                stderr=file,
            )


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    if not Path(IP).is_file():
        pytest.skip("no network namespaces: install Debian's package iproute2")
    made = [Host(f"nearfar-{os.getpid()}-{number}", number) for number in range(2)]
    try:
        for host in made:
            done = subprocess.run(
                [IP, "netns", "add", host.name], capture_output=True, text=True, check=False
            )
            if done.returncode:
                pytest.skip(f"network namespaces cannot be created here: {done.stderr.strip()}")
        first, second = (host.name for host in made)
        wire = [IP, "-n", first, "link", "add", WIRE, "type", "veth", "peer", WIRE]
        done = subprocess.run([*wire, "netns", second], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"network namespaces cannot be joined here: {done.stderr.strip()}")
        for host in made:
            host.ip("addr", "add", f"{host.address}/24", "dev", WIRE)
            host.ip("link", "set", WIRE, "up")
            host.ip("link", "set", "lo", "up")
        yield made
    finally:
        for host in made:
            subprocess.run([IP, "netns", "del", host.name], capture_output=True, check=False)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "impatient.py").write_text(IMPATIENT)
    return tmp_path / "impatient.py"


@pytest.fixture
def photos(tmp_path: Path, digits: np.ndarray) -> Path:
    np.save(tmp_path / "digits.npy", digits[:301])
    return tmp_path / "digits.npy"


def run_alone(arguments: list[object]) -> None:
    command = [sys.executable, "-m", "nearfar", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def run_on(hosts: list[Host], script: Path, arguments: list[object]) -> None:
    logs = [script.with_name(f"log-{host.number}") for host in hosts]
    started = [host.start(script, arguments, log) for host, log in zip(hosts, logs, strict=True)]
    try:
        for process, log in zip(started, logs, strict=True):
            assert process.wait(timeout=600) == 0, log.read_text()
    finally:
        for process in started:
            process.kill()


def wait_for(text: str, log: Path, seconds: float = 300) -> str:
    """Return the line of a log that has a text, once it is there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for line in log.read_text().splitlines():
            if text in line:
                return line
        time.sleep(0.1)
    raise AssertionError(f"no {text!r} in {seconds} s: {log.read_text()}")


def assert_equal_runs(one: Path, two: Path) -> None:
    a, b = weights(one), weights(two)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-3)
    embeddings = (runs.read_run(run).embeddings for run in (one, two))
    np.testing.assert_allclose(*embeddings, rtol=1e-2, atol=1e-2)


def test_two_hosts_train_and_encode_as_one_process(hosts, script, photos, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    run_alone(["train", photos, *TRAIN, 3, "--out", one])
    run_on(hosts, script, ["train", photos, *TRAIN, 3, "--out", two])
    assert_equal_runs(one, two)
    encode = ["encode", one, photos, "--device", "cpu", "--out"]
    run_alone([*encode, tmp_path / "one.parquet"])
    run_on(hosts, script, [*encode, tmp_path / "two.parquet"])
    ours, theirs = (read_embeddings(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    assert ours.names == theirs.names
    np.testing.assert_allclose(ours.embeddings, theirs.embeddings, atol=1e-5)


def test_a_lost_host_ends_the_other_and_both_resume(hosts, script, photos, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train = ["train", photos, *TRAIN, 30]
    run_alone([*train, "--out", one])
    logs = [tmp_path / "first", tmp_path / "second"]
    arguments = [*train, "--out", two]
    started = [host.start(script, arguments, log) for host, log in zip(hosts, logs, strict=True)]
    try:
        wait_for("train   2", logs[0])
        hosts[1].ip("link", "set", WIRE, "down")
        for log in logs:
            line = wait_for("nearfar: ", log)
            assert "lost contact with another process" in line
            assert line.endswith("resume the run")
        started[0].wait(timeout=60)
    finally:
        for process in started:  # torchrun on the lost host has no one to report to
            process.kill()
            process.wait()
    hosts[1].ip("link", "set", WIRE, "up")
    assert not runs.is_finished(two)
    run_on(hosts, script, ["train", photos, *TRAIN, 30, "--out", two, "--resume"])
    assert_equal_runs(one, two)
