"""Kill `anomaly fit` and `anomaly score` at random moments: they continue to the same result.

    PYTHONPATH=tests python -m anomaly.kill --count 100

Each trial starts a command on tiny clips, kills its process (SIGKILL) at a random moment, and
gives the command again: `fit` with `--resume` if it says so, `score` as it was. All files must be
those of a run that was not killed, byte for byte, and nothing may be left over. Half of the trials
are of single images, half of videos. Calls that ended before they were killed are not counted.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from clips import scene, write_clip
from nearfar.anomaly import is_unfinished, open_clips, read_detector
from nearfar.cli import main
from nearfar.errors import NearfarError

#: Training of the smallest detector that has a network, an autoencoder and a bank.
FIT = ("--setting", "stills", "--pretrain-epochs", "2", "--epochs", "2")
FIT_VIDEO = ("--setting", "video")


def start(*arguments: object) -> int:
    """Start a command in a process of its own, and return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device)
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        os._exit(code)


def finish(*arguments: object) -> None:
    """Run a command to its end."""
    _, status = os.waitpid(start(*arguments), 0)
    assert status == 0, arguments


def kill(after: float, *arguments: object) -> bool:
    """Kill a command after some seconds; return whether it was still running."""
    child = start(*arguments)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def content(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, hidden ones included, and its folders.

    Logs hold seconds, which differ; encoded videos differ by a gray level in a few pixels, as sums
    depend on where arrays lie in memory, so that their frames are counted.
    """
    return {str(path.relative_to(folder)): _content(path) for path in folder.rglob("*")}


def _content(path: Path) -> bytes:
    if path.is_dir() or path.name == "log.jsonl":
        return b""
    if path.suffix == ".mp4":
        (clip,) = open_clips(path)
        return f"{len(list(clip))} frames, {clip.skipped}".encode()
    return path.read_bytes()


def fit_again(folder: Path, command: tuple[object, ...]) -> str:
    """Give a killed fit again; return what was needed."""
    if is_unfinished(folder):
        finish(*command, "--resume")
        return "resumed"
    if (folder / "detector.json").is_file():
        read_detector(folder)
        return "was complete"
    finish(*command)
    return "repeated"


def score_again(folder: Path, command: tuple[object, ...]) -> str:
    """Give a killed score again, unless it was complete."""
    if (folder / "alerts.json").is_file() and not list(folder.glob(".unfinished-*")):
        return "was complete"
    finish(*command)
    return "repeated"


def trial(
    out: Path,
    command: tuple[object, ...],
    again: Callable[[Path, tuple[object, ...]], str],
    after: float,
    expected: dict[str, bytes],
) -> str:
    """Kill a command after some seconds and give it again; return what was needed."""
    call = (*command, "--out", out)
    killed = kill(after, *call)
    try:
        how = again(out, call)
    except (AssertionError, NearfarError) as error:
        return f"fault: {error!r}"
    found = content(out)
    names = found.keys() | expected.keys()
    different = sorted(name for name in names if found.get(name) != expected.get(name))
    if different:
        return f"fault: {how}, but {different} differ"
    return how if killed else "ended before"


def trials(
    name: str,
    command: tuple[object, ...],
    again: Callable[[Path, tuple[object, ...]], str],
    root: Path,
    count: int,
    seed: int,
) -> Counter[str]:
    """Kill a command `count` times, and count what was needed to get its result."""
    rng = random.Random(f"{name} {seed}")  # noqa: S311
    whole = root / f"{name}-whole"
    began = time.perf_counter()
    finish(*command, "--out", whole)
    seconds = time.perf_counter() - began
    expected, outcomes = content(whole), Counter[str]()
    for number in itertools.count():
        out = root / f"{name}-{number}"
        outcome = trial(out, command, again, rng.uniform(0, seconds), expected)
        shutil.rmtree(out, ignore_errors=True)
        if outcome.startswith("fault"):
            print(f"{name} {number}: {outcome}", file=sys.stderr, flush=True)
        outcomes[outcome.split(":")[0]] += 1
        if outcomes.total() - outcomes["ended before"] == count:
            return outcomes
    raise AssertionError


def kill_all(root: Path, count: int, seed: int = 0) -> Iterator[tuple[str, Counter[str]]]:
    """Kill both commands, and yield the outcomes of each in each setting."""
    for number in range(4):
        write_clip(root / "normal" / f"{number}", scene(1, 16, seed=number))
    clip = np.concatenate([scene(1, 12, seed=9), scene(3, 12, seed=9)])
    write_clip(root / "new" / "a", clip)
    write_clip(root / "new" / "a_gt", (clip == 220).astype(np.uint8) * 255)
    for setting, options in (("stills", FIT), ("video", FIT_VIDEO)):
        name, fit = f"fit-{setting}", ("anomaly", "fit", root / "normal", *options)
        yield name, trials(name, fit, fit_again, root, count // 2, seed)
        score = ("anomaly", "score", root / f"{name}-whole", root / "new")
        yield (
            f"score-{setting}",
            trials(f"score-{setting}", score, score_again, root, count // 2, seed),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for command, outcomes in kill_all(Path(folder), options.count, options.seed):
            print(f"{command}: {dict(outcomes)}", flush=True)
            faults += outcomes["fault"]
    sys.exit(faults > 0)
