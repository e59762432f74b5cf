"""Speed and memory of a detector on a stream: a video, again and again, through a pipe.

``python -m benchmarks.stream DETECTOR VIDEO --minutes 120``
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from nearfar.anomaly import follow, read_detector


def feed(video: str, pipe: str, fed: Any, end: float) -> None:
    """Write the video into the pipe until the end; the pipe lets it wait for its reader."""
    with av.open(video) as source, av.open(pipe, "w", format="mpegts") as out:
        stream: Any = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        period = 1 / Fraction(stream.average_rate) / stream.time_base
        for number in itertools.count():
            packet = next(source.demux(stream))
            if packet.dts is None:
                source.seek(0)
                packet = next(source.demux(stream))
            if time.monotonic() > end:
                return
            packet.pts = packet.dts = round(number * period)
            packet.stream = copy
            out.mux(packet)
            fed.value = number + 1


def resident() -> float:
    """Return the memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Score, and print a line per minute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector")
    parser.add_argument("video")
    parser.add_argument("--minutes", type=float, default=2)
    options = parser.parse_args()
    detector = read_detector(options.detector)
    context = multiprocessing.get_context("spawn")
    fed = context.Value("q", 0)
    with tempfile.TemporaryDirectory() as folder:
        pipe = f"{folder}/pipe"
        os.mkfifo(pipe)
        start = time.monotonic()
        end = start + 60 * options.minutes
        feeder = context.Process(target=feed, args=(options.video, pipe, fed, end))
        feeder.start()
        alerts, over = 0, threading.Event()

        def report() -> None:
            before, used = 0, time.process_time()
            while not over.wait(min(60.0, 60 * options.minutes / 2)):
                frames, now = fed.value, time.process_time()
                print(
                    f"{(time.monotonic() - start) / 60:.1f} min: {frames} frames, "
                    f"{(frames - before) / (now - used):.0f} per CPU second, {resident():.0f} MB, "
                    f"{alerts} alerts",
                    flush=True,
                )
                before, used = frames, now

        reporter = threading.Thread(target=report)
        reporter.start()
        try:
            for _ in follow(detector, pipe, notify=print):
                alerts += 1
        finally:
            over.set()
        reporter.join()
        feeder.join()


if __name__ == "__main__":
    main()
