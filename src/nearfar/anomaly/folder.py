"""The folder of a detector: its description, its networks, and what it takes from normal frames."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nearfar import runs
from nearfar.anomaly.appearance import Appearance
from nearfar.anomaly.config import DetectorConfig
from nearfar.anomaly.detector import Detector
from nearfar.anomaly.patches import Grid
from nearfar.anomaly.scoring import CodeDistance, ReconstructionError, Scale, Scorer
from nearfar.anomaly.tempo import SHRINK, Tempo, TempoNet
from nearfar.errors import NearfarError
from nearfar.files import ADVICE, claim_output, clear_folder, write_json

#: Raised by one whenever an older nearfar could not read what is written.
FORMAT = 2
CONFIG, ARRAYS, NETWORK = "detector.json", "detector.safetensors", "network"
TEMPO, APPEARANCE = "tempo.safetensors", "appearance.safetensors"
#: What an unfinished detector is fitted with.
BEGUN = "begun.json"
OWN = {CONFIG, ARRAYS, NETWORK, TEMPO, APPEARANCE, BEGUN, runs.CHECKPOINT}


def begin(folder: Path, choices: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Make room for a detector, or check that the one begun here had the same choices.

    Raises
    ------
    NearfarError
        If there is nothing to resume, or something else is in the folder.
    """
    begun = json.loads(json.dumps(choices))
    if resume:
        if not (folder / BEGUN).is_file():
            raise NearfarError(f"{str(folder)!r} holds no unfinished detector: fit it anew")
        with runs.reading(folder, BEGUN):
            before = json.loads((folder / BEGUN).read_text(encoding="utf-8"))
            changed = [name for name in begun if before[name] != begun[name]]
        for name in changed:
            raise NearfarError(
                f"detector {str(folder)!r} was begun with other {name}: resume it with the same "
                "choices and frames"
            )
        return
    known = [name for name in (CONFIG, BEGUN) if (folder / name).is_file()]
    if overwrite and known:
        clear_folder(folder, OWN, last=known[0])
    advice = "it is no detector, so choose another" if overwrite else ADVICE
    claim_output(folder, overwrite=False, folder=True, advice=advice).mkdir(exist_ok=True)
    write_json(folder / BEGUN, begun)


def write_tempo(folder: Path, network: TempoNet) -> None:
    """Keep a trained `TempoNet`."""
    runs.write_tensors(folder / TEMPO, runs.to_write(network.state_dict()))


def write_appearance(folder: Path, appearance: Appearance) -> None:
    """Keep a fitted `Appearance`."""
    tensors = {"center": appearance.center, "left_out": appearance.left_out}
    runs.write_tensors(folder / APPEARANCE, runs.to_write(tensors))


def write_detector(folder: Path, detector: Detector, bank: Tensor | None) -> None:
    """Write what is not written yet; the description comes last: what has it is complete."""
    arrays = {}
    if detector.scale is not None:
        arrays["scale"] = torch.from_numpy(detector.scale.scale)
    if bank is not None and "embeddings" in detector.config.parts:
        arrays["bank"] = bank
    runs.write_tensors(folder / ARRAYS, runs.to_write(arrays))
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "config": asdict(detector.config),
            "size": detector.grid.size,
            "threshold": detector.threshold,
            "calibrated_on": detector.calibrated_on,
            "rate": detector.rate,
        },
    )
    for leftover in (folder / BEGUN, folder / NETWORK / runs.EMBEDDINGS):
        leftover.unlink(missing_ok=True)


def read_detector(folder: Path) -> Detector:
    """Read what `fit_detector` kept.

    Raises
    ------
    NearfarError
        If it is missing, unfinished, damaged, or of a newer format.
    """
    if not (folder / CONFIG).is_file():
        if (folder / BEGUN).is_file():
            raise NearfarError(f"detector {str(folder)!r} is unfinished: fit it with --resume")
        raise NearfarError(
            f"{str(folder)!r} is no detector: it has no {CONFIG}; make one with anomaly fit"
        )
    with runs.reading(folder, CONFIG):
        saved = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        newer = saved["format"] > FORMAT
    if newer:
        raise NearfarError(
            f"detector {str(folder)!r} has format {saved['format']}: this nearfar reads up to "
            f"{FORMAT}, so install a newer one"
        )
    with runs.reading(folder, CONFIG):
        config = DetectorConfig(**saved["config"])
        height, width = saved["size"]
        grid = Grid((int(height), int(width)), config.patch, config.stride)
        threshold, calibrated_on = float(saved["threshold"]), int(saved["calibrated_on"])
        rate = None if saved["rate"] is None else float(saved["rate"])
    arrays, _ = runs.read_tensors(folder / ARRAYS)
    with runs.reading(folder, ARRAYS):
        scale = Scale(arrays["scale"].numpy()) if config.scaled else None
        bank = arrays["bank"] if "embeddings" in config.parts else None
        rows = grid.shape[0] if config.by_place else 1
        if scale is not None and scale.scale.shape != (len(config.parts), rows):
            raise NearfarError(f"a scale of shape {scale.scale.shape}")
    scorers = read_scorers(folder, config, bank)
    return Detector(config, grid, scorers, scale, threshold, calibrated_on, rate)


def read_scorers(folder: Path, config: DetectorConfig, bank: Tensor | None) -> list[Scorer]:
    """Make a scorer for each part, with the networks of the folder."""
    scorers: list[Scorer] = []
    for part in config.parts:
        if part == "tempo":
            scorers.append(Tempo(_read_tempo(folder, config)))
        elif part == "appearance":
            scorers.append(_read_appearance(folder, config))
        elif part == "reconstruction":
            scorers.append(ReconstructionError(runs.read_network(folder / NETWORK)))
        elif bank is not None:
            network = runs.read_network(folder / NETWORK)
            scorers.append(CodeDistance(network.encoder, bank))
        else:
            raise NearfarError(f"{str(folder)!r} has no bank: expected one for {part!r}")
    return scorers


def _read_tempo(folder: Path, config: DetectorConfig) -> TempoNet:
    tensors, _ = runs.read_tensors(folder / TEMPO)
    with runs.reading(folder, TEMPO):
        network = TempoNet(config.frames, config.patch // SHRINK)
    runs.load_weights(network, tensors, "", folder)
    return network


def _read_appearance(folder: Path, config: DetectorConfig) -> Appearance:
    tensors, _ = runs.read_tensors(folder / APPEARANCE)
    with runs.reading(folder, APPEARANCE):
        appearance = Appearance(tensors["center"], tensors["left_out"])
        if tensors["left_out"].shape[1:] != (appearance.side**2,) or appearance.side > config.patch:
            raise NearfarError(f"axes of shape {tuple(tensors['left_out'].shape)}")
    return appearance
