"""Run every benchmark, or those named, print the figures, and write them to results.json.

Each is written as soon as it has run, with the machine and the day; others stay as they are.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks import anomaly, curate, defense, finders, pairs, scale, training
from nearfar.files import write_json

RESULTS = Path(__file__).with_name("results.json")


def main(chosen: list[str]) -> None:
    """Measure; nothing else should run on the machine meanwhile."""
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "training": training.epochs,
        "encoding": training.encoding,
        "anomaly": anomaly.streaming,
        "duplicates": curate.duplicates,
        "label-errors": curate.label_errors,
        "selection": curate.selection,
        "purification": defense.purification,
        "exact": finders.exact_against_faiss_and_sklearn,
        "clustered-60k": lambda: finders.clustered(60_000, 128, 245),
        "clustered-1m": lambda: finders.clustered(1_000_000, 256, 400),
        "pairs": pairs.all_of_pairs,
        "growth": scale.growth,
        "decoding": scale.decoding,
        "alexnet": scale.alexnet,
        "disk": scale.bank_on_disk,
    }
    unknown = set(chosen) - set(parts)
    if unknown:
        sys.exit(f"no benchmark {unknown.pop()!r}: expected some of {', '.join(parts)}")
    results = json.loads(RESULTS.read_text())
    for part in chosen or parts:
        print(f"measuring: {part}", flush=True)
        figures = parts[part]()
        for name, value in figures.items():
            print(f"{value:12.3f}  {name}", flush=True)
        today = date.today().isoformat()
        results[part] = {"machine": machine(), "date": today, "figures": figures}
        write_json(RESULTS, results)


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
        "faiss": version("faiss-cpu"),
        "python": platform.python_version(),
    }


def _processor() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main(sys.argv[1:])
