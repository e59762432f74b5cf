"""Kill commands at random moments, and repeat them: the results must be those of an unkilled call.

    PYTHONPATH=tests python -m robustness.kill --command train --count 100
    PYTHONPATH=tests python -m robustness.kill --command train --only 47    # one of them again

A killed `train` is resumed, or repeated if it had not begun; other commands are repeated as they
are. Nothing is removed in between.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

#: Longest time of a call, in seconds.
TIME = 120.0

#: What a call that was killed after its last write says when it is repeated or resumed.
DONE = ("exists already", "is finished: there is nothing to resume")

Call = tuple[object, ...]


@dataclass(frozen=True)
class Scenario:
    """A command, without its output."""

    name: str
    call: Call
    output: str = "out"
    on_disk: bool = False
    resumable: bool = False


@dataclass
class Result:
    """What became of the killed calls."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)


def scenarios(command: str, fixed: Path) -> list[Scenario]:
    """Write tiny data, and return the ways to call a command."""
    return {
        "train": _train,
        "encode": _encode,
        "curate": _curate,
        "transfer": _transfer,
    }[command](fixed)


QUICK = ("--pretrain-epochs", 2, "--epochs", 2, "--batch-size", 8, "--device", "cpu")


def _photos(folder: Path, count: int, side: int = 16) -> Path:
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def _train(fixed: Path) -> list[Scenario]:
    photos = _photos(fixed / "photos", 48)
    call = ("train", photos, *QUICK, "--embedding-size", 6, "--clusters", 3)
    assert call_program(*call, "--out", fixed / "run") == 0  # imports what children need
    return [
        Scenario("paper", call, resumable=True),
        Scenario("on disk", call, on_disk=True, resumable=True),
        Scenario("nearfar", (*call, "--recipe", "nearfar"), resumable=True),
    ]


def _encode(fixed: Path) -> list[Scenario]:
    photos = _photos(fixed / "photos", 400)
    few = _photos(fixed / "few", 16)
    options = ("--embedding-size", 6, "--clusters", 3, "--out", fixed / "run")
    assert call_program("train", few, *QUICK, *options) == 0
    call = ("encode", fixed / "run", photos, "--device", "cpu")
    return [
        Scenario("npz", call, "out.npz"),
        Scenario("parquet", call, "out.parquet"),
        Scenario("on disk", call, "out.npz", on_disk=True),
    ]


def _curate(fixed: Path) -> list[Scenario]:
    photos = _photos(fixed / "photos", 60)
    shutil.copy(photos / "003.png", photos / "copy.png")
    shutil.copytree(photos, fixed / "test")
    stored = fixed / "photos.parquet"
    model = ("timm:resnet18", "--weights", "random", "--size", 32, "--device", "cpu")
    assert call_program("encode", model[0], photos, *model[1:], "--out", stored) == 0
    call = ("curate", photos, "--encoder", stored, "--device", "cpu")
    return [Scenario("curate", call), Scenario("against", (*call, "--against", fixed / "test"))]


def _transfer(fixed: Path) -> list[Scenario]:
    from nearfar.transfer import write_classes, write_scenes

    classes, voc = write_classes(fixed / "classes", 5), write_scenes(fixed / "voc", 8)
    network = ("--size", 64, "--backbone", "alexnet", "--widths", 24, "--embedding-size", 16)
    once = ("--pretrain-epochs", 1, "--epochs", 0, "--batch-size", 8, "--device", "cpu")
    run = fixed / "run"
    assert call_program("train", voc / "JPEGImages", *once, *network, "--out", run) == 0
    options = ("--steps", 2, "--batch-size", 2, "--size", 64, "--device", "cpu")
    segment = ("transfer", "segment", run, voc, *options)
    assert call_program(*segment, "--out", fixed / "segmenter") == 0
    splits = ("--splits", "train", "test")
    return [
        Scenario("classify", ("transfer", "classify", run, classes, *options)),
        Scenario("segment", segment),
        Scenario("detect", ("transfer", "detect", run, voc, *splits, *options)),
        Scenario(
            "predict",
            ("transfer", "predict", fixed / "segmenter", voc / "JPEGImages", "--device", "cpu"),
        ),
    ]


def call_program(*arguments: object) -> int:
    """Run a command line in this process, and return its exit code."""
    from nearfar.cli import main

    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _call_in_child(scenario: Scenario, call: Call, log: Path) -> int:
    """Start a command line in a child process; return its number."""
    if child := os.fork():
        return child
    code = 1
    gc.freeze()  # collecting what the parent's other threads use would crash the child
    try:
        from nearfar.data import arrays

        if scenario.on_disk:
            arrays.IN_MEMORY_BYTES = 0
        with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
            code = call_program(*call)
    finally:
        os._exit(code)


def _wait(child: int) -> int:
    """Return the exit code of a child, which must end in time."""
    until = time.monotonic() + TIME
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"hangs: not done in {TIME:g} s")


def content(folder: Path) -> dict[str, object]:
    """Return what must be equal in two outputs: names, and content without times."""
    return {str(p.relative_to(folder)): _content(p) for p in folder.rglob("*") if p.is_file()}


def _content(path: Path) -> object:
    if path.name == "log.jsonl":
        import json

        lines = [json.loads(line) for line in path.read_text().splitlines()]
        times = ("seconds", "images_per_second")
        return [{k: v for k, v in line.items() if k not in times} for line in lines]
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name].tobytes() for name in arrays}
    return path.read_bytes().replace(bytes(path.parents[1]), b"")


def try_once(
    scenario: Scenario, expected: dict[str, object], seconds: float, place: Path, seed: str
) -> str:
    """Kill a call once or twice, and finish it; return what was needed."""
    rng = random.Random(seed)  # noqa: S311
    log, call = place / "log.txt", (*scenario.call, "--out", place / "result" / scenario.output)
    (place / "result").mkdir()
    log.touch()
    how = "repeated"
    for _ in range(rng.choice((1, 1, 2))):
        child = _call_in_child(scenario, (*call, *_resume(scenario, place)), log)
        time.sleep(rng.uniform(0, 1.1 * seconds))
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            how = "done before"
            break
    else:
        resume = _resume(scenario, place)
        log = place / "last.txt"  # orphaned workers complain in the other one
        how = "resumed" if resume else how
        code = _wait(_call_in_child(scenario, (*call, *resume), log))
        said = log.read_text()
        done = code == 2 and any(text in said.splitlines()[-1] for text in DONE)
        assert code == 0 or done, f"exit code {code}: {said}"
        how = "written before" if done else how
    assert "Traceback" not in log.read_text(), log.read_text()
    _check(content(place / "result"), expected)
    return how


def _resume(scenario: Scenario, place: Path) -> Sequence[object]:
    """Return the option to resume what has begun."""
    begun = (place / "result" / scenario.output / "config.json").is_file()
    return ("--resume",) if scenario.resumable and begun else ()


def _check(found: dict[str, object], expected: dict[str, object]) -> None:
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    different = [name for name, value in found.items() if value != expected[name]]
    assert not different, f"other results: {different}"


def kill(
    command: str,
    count: int,
    *,
    seed: int = 0,
    only: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Result:
    """Kill a command at seeded random moments of the time that it takes.

    Calls that ended before they were killed are not counted.
    """
    result = Result()
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        fixed = Path(name, "fixed")
        fixed.mkdir()
        with Path(name, "log.txt").open("w") as log, redirect_stdout(log), redirect_stderr(log):
            ways = scenarios(command, fixed)
        whole = [_whole(way, Path(name, f"whole {number}")) for number, way in enumerate(ways)]
        for number in range(3 * count) if only is None else [only]:
            way = number % len(ways)
            place = Path(name, str(number))
            place.mkdir()
            try:
                how = try_once(ways[way], *whole[way], place, f"{command} {seed} {number}")
            except AssertionError as error:
                how = "fault"
                result.faults.append((number, f"{ways[way].name}: {error}"))
                progress(f"fault {result.faults[-1]}")
            if how == "done before":
                continue
            result.counts[how] += 1
            killed = result.counts.total()
            if killed % 20 == 0:
                progress(f"{killed}: {dict(result.counts)}")
            if killed == count:
                break
    return result


def _whole(scenario: Scenario, place: Path) -> tuple[dict[str, object], float]:
    """Return the results of a call that is not killed, and the seconds that it takes."""
    (place / "result").mkdir(parents=True)
    call = (*scenario.call, "--out", place / "result" / scenario.output)
    began = time.monotonic()
    code = _wait(_call_in_child(scenario, call, place / "log.txt"))
    assert code == 0, (place / "log.txt").read_text()
    return content(place / "result"), time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = ("train", "encode", "curate", "transfer")
    parser.add_argument("--command", action="append", choices=commands)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one call, to try it again")
    options = parser.parse_args()
    faults = 0
    for command in options.command or commands:

        def say(line: str, command: str = command) -> None:
            print(f"{command}: {line}", file=sys.stderr, flush=True)

        result = kill(command, options.count, seed=options.seed, only=options.only, progress=say)
        shown = ", ".join(f"{how} {result.counts[how]}" for how in sorted(result.counts))
        print(f"{command:>10}: {shown}; faults {len(result.faults)}", flush=True)
        faults += len(result.faults)
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
