"""Run every benchmark, print the figures, and write them to results.json."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks import anomaly, defense, finders, scale, training
from nearfar.files import write_json

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Measure; nothing else should run on the machine meanwhile."""
    parts = {
        "training": training.epochs,
        "encoding": training.encoding,
        "anomaly detection": anomaly.streaming,
        "purification": defense.purification,
        "exact finder": finders.exact_against_faiss_and_sklearn,
        "clustered finder, 60,000": lambda: finders.clustered(60_000, 128, 245),
        "clustered finder, 1,000,000": lambda: finders.clustered(1_000_000, 256, 400),
        "growth of the clustered finder": scale.growth,
        "decoding": scale.decoding,
        "AlexNet": scale.alexnet,
        "bank on disk": scale.bank_on_disk,
    }
    figures: dict[str, float] = {}
    for part, measure in parts.items():
        print(f"measuring: {part}", flush=True)
        measured = measure()
        for name, value in measured.items():
            print(f"{value:12.3f}  {name}", flush=True)
        figures |= measured
    write_json(RESULTS, {"machine": machine(), "figures": figures})


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
    main()
