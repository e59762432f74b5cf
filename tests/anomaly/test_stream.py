"""Alerts of cameras and pipes, on real pipes and sockets."""

from __future__ import annotations

import io
import json
import os
import resource
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from nearfar.anomaly import (
    Detector,
    DetectorConfig,
    Grid,
    follow,
)
from nearfar.errors import NearfarError
from program import run

av = pytest.importorskip("av")

SHAPE = (48, 64)


class Brightness:
    """Mean gray level."""

    def score(self, window, grid):
        return grid.means(window[-1].astype(np.float32))


def detector(*, frames: int = 3, **settings) -> Detector:
    config = DetectorConfig(
        methods=("reconstruction",), patch=16, stride=16, frames=frames, smoothing=0.0, **settings
    )
    grid = Grid(SHAPE, 16, 16)
    return Detector(config, grid, [Brightness()], threshold=100, rate=25, size=config.size)


def encoded(bright: list[bool], *, format: str = "mpegts", rate: int = 25, shape=SHAPE) -> bytes:
    """Video in which the right end lights up."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as out:
        stream = out.add_stream("mpeg4" if format == "mpegts" else "libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *shape, "yuv420p"
        for on in bright:
            pixels = np.full((*shape, 3), 40, np.uint8)
            if on:
                pixels[shape[0] // 3 : 2 * shape[0] // 3, -shape[1] // 4 :] = 240
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return file.getvalue()


def served(*connections: bytes) -> tuple[str, threading.Thread]:
    """Serve one video per connection, as a camera that fails after each."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server:
            for content in connections:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(content)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return f"tcp://127.0.0.1:{server.getsockname()[1]}", thread


def test_alert_says_when_and_where(tmp_path):
    path = tmp_path / "clip.mkv"
    path.write_bytes(encoded([False] * 30 + [True] * 5 + [False] * 10, format="matroska"))
    (alert,) = follow(detector(), str(path))
    assert (alert.frame, alert.time) == (30, pytest.approx(1.2))
    assert alert.box == (48, 16, 16, 16)
    assert alert.score > alert.threshold == 100


def test_box_is_in_pixels_of_the_camera(tmp_path):
    path = tmp_path / "clip.mkv"
    shape = (96, 128)
    path.write_bytes(encoded([True] * 30, format="matroska", shape=shape))
    half = detector(zoom=2.0, size=shape)
    (alert,) = follow(half, str(path))
    assert alert.box == (96, 32, 32, 32)


def test_abnormal_frames_within_two_seconds_are_one_alert(tmp_path):
    path = tmp_path / "clip.ts"
    on, off = [True] * 3, [False]
    path.write_bytes(encoded(off * 10 + on + off * 40 + on + off * 60 + on + off * 5))
    assert [alert.frame for alert in follow(detector(), str(path))] == [10, 116]


def test_named_pipe_is_followed(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = encoded([False] * 30 + [True] * 20)
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    alerts = list(follow(detector(), str(path)))
    writer.join()
    assert [alert.frame for alert in alerts] == [30]


def test_lost_camera_is_opened_again():
    content = encoded([False] * 60 + [True] * 5 + [False] * 5)
    address, thread = served(content, content)
    notes: list[str] = []
    alerts = follow(detector(), address.replace("://", "://user:secret@"), notify=notes.append)
    first, second = next(alerts), next(alerts)
    thread.join()
    assert (first.frame, second.frame) == (60, 70 + 60)
    assert second.time - first.time >= 2.6
    assert "is lost" in notes[0]
    assert "secret" not in first.source + "".join(notes)


def test_waits_become_longer_while_a_camera_is_away():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        if len(notes) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(follow(detector(), f"tcp://127.0.0.1:{port}", notify=note))
    assert [line.rpartition("in ")[2] for line in notes] == ["1 s", "2 s"]


def test_other_rate_size_and_kind_are_refused(tmp_path):
    path = tmp_path / "clip.mkv"
    path.write_bytes(encoded([False] * 40, format="matroska", rate=50))
    with pytest.raises(NearfarError, match="50 frames per second"):
        list(follow(detector(), str(path)))
    path.write_bytes(encoded([False] * 40, format="matroska", shape=(64, 64)))
    with pytest.raises(NearfarError, match="64x64"):
        list(follow(detector(), str(path)))
    with pytest.raises(NearfarError, match="fitted with|for photographs"):
        list(follow(detector(frames=1, independent_frames=True), str(path)))
    with pytest.raises(NearfarError, match="ftp"):
        list(follow(detector(), "ftp://host/file"))
    with pytest.raises(NearfarError, match="No such file"):
        list(follow(detector(), str(tmp_path / "absent")))
    path.write_text("no video")
    with pytest.raises(NearfarError, match="cannot be read as a video"):
        list(follow(detector(), str(path)))


def test_damaged_part_does_not_end_a_stream(tmp_path):
    content = bytearray(encoded([False] * 30 + [True] * 5 + [False] * 65 + [True] * 10))
    middle = len(content) // 2 // 188 * 188
    content[middle : middle + 188 * 4] = bytes(188 * 4)
    path = tmp_path / "clip.ts"
    path.write_bytes(content)
    alerts = list(follow(detector(), str(path)))
    assert len(alerts) == 2


def test_memory_does_not_grow_with_the_stream(tmp_path):
    def peak(repeats: int) -> int:
        path = tmp_path / f"{repeats}.ts"
        path.write_bytes(encoded(([False] * 20 + [True] * 5) * repeats))
        list(follow(detector(), str(path)))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = peak(4)
    assert peak(80) - before < 20_000  # 2,000 frames of 3 kB would be 6 MB, with their results more


def test_command_prints_a_line_per_alert(fitted, tmp_path, capsys):
    from clips import scene

    clip = np.concatenate([scene(1, 40, seed=9), scene(3, 40, seed=9)])
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:], "gray"
        for pixels in clip:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        out.mux(stream.encode())
    command = [sys.executable, "-m", "nearfar", "anomaly", "score", str(fitted), "-", "--follow"]
    done = subprocess.run(command, input=file.getvalue(), capture_output=True)
    assert done.returncode == 0, done.stderr
    alerts = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert alerts
    assert {"clock", "source", "frame", "time", "score", "threshold", "box"} == set(alerts[0])
    assert alerts[0]["source"] == "standard input"
    assert run("anomaly", "score", fitted, "-", "--follow", "--out", tmp_path / "out") == 2
    assert run("anomaly", "score", fitted, "-") == 2
    assert "--follow" in capsys.readouterr().err
