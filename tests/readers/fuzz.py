"""Damaged files for each reader: no traceback, no hang, bounded memory, nothing half-written.

    PYTHONPATH=tests python -m readers.fuzz --reader folder --count 10000
    PYTHONPATH=tests python -m readers.fuzz --reader folder --only 4711    # one of them again
    PYTHONPATH=tests python -m readers.fuzz --json counts.json    # a later call continues

A target is registered in a file `readers/targets_*.py`:

    @target("video", prepare)
    def _(inputs: Path, fixed: Path, output: Path) -> str:
        return outcome(command("anomaly", "score", fixed / "detector", inputs, "--out", output))

`prepare(inputs, fixed)` writes valid files once: `inputs` is copied and damaged each time, `fixed`
is not. The function returns an outcome, raises NearfarError for a rejection, and anything else is a
fault.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nearfar.errors import NearfarError
from readers.mutation import mutate
from readers.support import Said

#: Longest time for one input, in seconds.
TIME = 30.0
#: Most memory for one input, in bytes: eight threads decode up to 89 million pixels each.
MEMORY = 2**31
#: Protects the machine from an input that asks for more, in bytes.
ADDRESS_SPACE = 2**34

OUTCOMES = ("success", "skipped", "rejected", "fault")

Prepare = Callable[[Path, Path], None]
Use = Callable[[Path, Path, Path], str]


@dataclass(frozen=True)
class Target:
    """A reader under test."""

    prepare: Prepare
    use: Use
    rename: bool
    one: bool


@dataclass
class Result:
    """Outcomes of one reader."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0
    memory: int = 0

    @property
    def done(self) -> int:
        return self.counts.total()

    @classmethod
    def read(cls, values: dict[str, Any]) -> Result:
        """Make a result from the values of a file."""
        return cls(**{**values, "counts": Counter(values["counts"])})


_TARGETS: dict[str, Target] = {}


def target(
    reader: str, prepare: Prepare, *, rename: bool = True, one: bool = False
) -> Callable[[Use], Use]:
    """Register what a reader does with damaged inputs.

    Parameters
    ----------
    prepare : callable
        Writes valid files, of inputs and of what stays as it is.
    rename : bool
        Whether files may also be renamed, removed, copied, or replaced by folders and links.
    one : bool
        Whether each input is one of the files, instead of all.
    """

    def register(use: Use) -> Use:
        _TARGETS[reader] = Target(prepare, use, rename, one)
        return use

    return register


def targets() -> dict[str, Target]:
    """Return all targets by reader."""
    for module in _target_modules():
        importlib.import_module(module)
    return _TARGETS


def _target_modules() -> list[str]:
    found = sorted(Path(__file__).parent.glob("targets_*.py"))
    return [f"readers.{path.stem}" for path in found]


def outcome(said: Said) -> str:
    """Return the outcome of a command, and check what it said.

    A rejected command ends with one line and exit code 2; other lines are about skipped files and
    warnings.
    """
    lines = said.err.splitlines()
    assert "Traceback" not in said.err, said.err
    assert said.code in (0, 2), said
    assert not any(len(line) > 2000 for line in lines), said.err
    if said.code == 0:
        partly = any(line.startswith(("skipped", "warning: ")) for line in lines)
        return "skipped" if partly else "success"
    assert lines, "exit code 2 without a word"
    assert lines[-1].startswith("nearfar: "), said.err
    return "rejected"


def fuzz(
    reader: str,
    count: int,
    *,
    seed: int = 0,
    only: int | None = None,
    before: Result | None = None,
    progress: Callable[[str, Result], None] = lambda line, result: None,
) -> Result:
    """Try damaged inputs of a reader in a process of its own, which is replaced if it dies.

    Parameters
    ----------
    before : Result, optional
        Outcomes of the first inputs, which are not tried again.
    progress : callable
        Called at each fault and after 500 inputs.
    """
    result = before or Result()
    waiting = [only] if only is not None else list(range(result.done, count))
    # Processes are forked from one that has imported everything and started no thread.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_target_modules())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        while waiting:
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(reader, seed, waiting, place, theirs))
            worker.start()
            theirs.close()
            done = _collect(ours, worker.pid or 0, waiting, result, progress)
            worker.kill()
            worker.join()
            waiting = waiting[done:]
    return result


def _collect(
    pipe: Connection,
    pid: int,
    waiting: Sequence[int],
    result: Result,
    progress: Callable[[str, Result], None],
) -> int:
    """Collect results until all are there, or the worker hangs or dies; return their number."""
    started = False
    for done, index in enumerate(waiting):
        limit = TIME if started else 4 * TIME
        try:
            if not _answers(pipe, pid, limit):
                _fault(result, index, f"hangs: no answer in {limit:g} s", progress)
                return done + 1
            what, why, seconds, memory = pipe.recv()
        except EOFError:
            _fault(result, index, "the process died", progress)
            return done + 1
        started = True
        result.slowest, result.memory = max(result.slowest, seconds), max(result.memory, memory)
        if what == "fault":
            _fault(result, index, why, progress)
        else:
            result.counts[what] += 1
        if result.done % 500 == 0:
            progress(f"{result.done}: {dict(result.counts)}", result)
    return len(waiting)


def _answers(pipe: Connection, pid: int, limit: float) -> bool:
    """Return whether a process answers before it has computed for `limit` seconds, or stands still.

    Seconds of the clock would count what other programs compute.
    """
    first = last = _cpu_seconds(pid)
    while not pipe.poll(limit):
        now = _cpu_seconds(pid)
        if now - first > limit or now == last:
            return False
        last = now
    return True


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _fault(result: Result, index: int, why: str, progress: Callable[[str, Result], None]) -> None:
    result.counts["fault"] += 1
    result.faults.append((index, why))
    progress(f"fault {index}: {why}", result)


def _work(reader: str, seed: int, indices: Sequence[int], place: str, pipe: Connection) -> None:
    """Try inputs one after the other, and send (outcome, reason, seconds, bytes) of each."""
    one = targets()[reader]
    here = Path(place)
    original, fixed = here / "original", here / "fixed"
    if not original.exists():
        original.mkdir()
        fixed.mkdir()
        one.prepare(original, fixed)
    soft = _status("VmSize") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    for index in indices:
        pipe.send(_try(one, random.Random(f"{reader} {seed} {index}"), here))  # noqa: S311
    pipe.close()


def _try(one: Target, rng: random.Random, here: Path) -> tuple[str, str, float, int]:
    original, fixed = here / "original", here / "fixed"
    inputs, output = here / "inputs", here / "output"
    for folder in (inputs, output):
        shutil.rmtree(folder, ignore_errors=True)
    if one.one:
        inputs.mkdir()
        shutil.copy(rng.choice(sorted(original.iterdir())), inputs)
    else:
        shutil.copytree(original, inputs, symlinks=True)
    mutate(inputs, rng, rename=one.rename)
    before = _digest(inputs), _digest(fixed)
    output.mkdir()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    began, memory = time.perf_counter(), _status("VmRSS")
    try:
        what, why = one.use(inputs, fixed, output / "out"), ""
        assert what in OUTCOMES, what
    except NearfarError as error:
        what, why = "rejected", str(error)
        if "\n" in why:
            what, why = "fault", f"more than one line: {why!r}"
    except Exception:
        what, why = "fault", traceback.format_exc()
    seconds, memory = time.perf_counter() - began, max(0, _status("VmHWM") - memory)
    if memory > MEMORY:
        what, why = "fault", f"{memory / 2**20:.0f} MiB of memory"
    left = [str(path.relative_to(output)) for path in output.rglob("*")]
    if what == "rejected" and left:
        what, why = "fault", f"rejected, and left {left}: {why}"
    if any(".unfinished-" in name for name in left):
        what, why = "fault", f"half-written: {left}"
    if (_digest(inputs), _digest(fixed)) != before:
        what, why = "fault", "inputs were changed"
    return what, why, seconds, memory


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(os.fsencode(path))
        if path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()


def _status(name: str) -> int:
    """Return a size of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reader", action="append", choices=sorted(targets()))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one input, to try it again")
    parser.add_argument("--json", type=Path, help="file for the counts, to continue from")
    options = parser.parse_args()
    kept: dict[str, Any] = {}
    if options.json is not None and options.json.exists():
        kept = json.loads(options.json.read_text())
    faults = 0
    for reader in options.reader or sorted(targets()):

        def keep(line: str, result: Result, reader: str = reader) -> None:
            print(f"{reader}: {line}", file=sys.stderr, flush=True)
            kept[reader] = vars(result)
            if options.json is not None:
                options.json.write_text(json.dumps(kept, indent=1) + "\n")

        before = Result.read(kept[reader]) if reader in kept else None
        result = fuzz(
            reader,
            options.count,
            seed=options.seed,
            only=options.only,
            before=before,
            progress=keep,
        )
        keep("done", result)
        shown = ", ".join(f"{each} {result.counts[each]}" for each in OUTCOMES)
        print(
            f"{reader:>14}: {shown}; slowest {result.slowest:.2f} s, "
            f"memory {result.memory / 2**20:.0f} MiB",
            flush=True,
        )
        faults += result.counts["fault"]
    sys.exit(faults > 0)


if __name__ == "__main__":
    # The registry of the imported module, not of __main__.
    from readers.fuzz import main as imported_main

    imported_main()
