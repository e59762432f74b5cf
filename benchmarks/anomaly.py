"""Streaming detection on video of 360×240 pixels, against decoding it and against the network."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.turns import in_turns, ratio, seconds
from nearfar.anomaly import (
    Clip,
    Detector,
    DetectorConfig,
    Grid,
    Method,
    Motion,
    Reconstruction,
    open_clips,
    open_video,
    windows,
)
from nearfar.anomaly.methods.appearance import fit_appearance
from nearfar.anomaly.methods.motion import DOWNSCALE, MotionNet, downscale, find_moving
from nearfar.config import ConvNet
from nearfar.models import build_network

SIZE, FRAMES, ROUNDS = (240, 360), 100, 3
WALKERS, WALKER = 15, (40, 14)


def streaming() -> dict[str, float]:
    """Frames a second from an MP4 file, for both settings, with fresh weights."""
    torch.manual_seed(0)
    figures: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        _write(path)
        (clip,) = open_clips(path)
        for name, config in {"paper": DetectorConfig.paper(), "video": DetectorConfig()}.items():
            grid = Grid(SIZE, config.patch, config.stride)
            scorers, bare = _paper(grid) if name == "paper" else _video(clip, grid, config)
            detector = Detector(config, grid, scorers)
            kinds: dict[str, Callable[[], object]] = {
                "decoding": lambda: sum(1 for _ in clip),
                "network": bare,
                "all": partial(_score, detector, clip),
            }
            taken = in_turns({kind: partial(seconds, work) for kind, work in kinds.items()}, ROUNDS)
            total = taken.pop("all")
            figures[f"anomaly, {name}: frames/s"] = FRAMES / median(total)
            for kind, alone in taken.items():
                figures[f"anomaly, {name}: time ÷ {kind} alone"] = ratio(total, alone)
    return figures


def _score(detector: Detector, clip: Clip) -> int:
    return sum(1 for _ in detector.score(clip))


def _paper(grid: Grid) -> tuple[list[Method], Callable[[], object]]:
    network = build_network(ConvNet(), (1, grid.patch, grid.patch)).eval()
    patches = torch.rand(math.prod(grid.shape), 1, grid.patch, grid.patch)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(FRAMES):
            network(patches)

    return [Reconstruction(network)], bare


def _video(
    clip: Clip, grid: Grid, config: DetectorConfig
) -> tuple[list[Method], Callable[[], object]]:
    network = MotionNet(config.frames, config.patch // DOWNSCALE).eval()
    appearance = fit_appearance([clip], grid)
    middles = torch.rand(math.prod(grid.shape), len(appearance.center))
    positions = torch.from_numpy(grid.positions).float()
    seen = []
    for _, window in windows(clip, config.frames):
        chosen = find_moving(window, grid)
        seen.append((downscale(torch.from_numpy(grid.extract(window, chosen))), positions[chosen]))

    @torch.no_grad()
    def bare() -> None:
        for patches, heights in seen:
            network(patches, heights)
            middles @ appearance.left_out.T

    return [Motion(network), appearance], bare


def _write(path: Path) -> None:
    """Write a video of dark blocks that walk over a bright, textured ground."""
    generator = np.random.default_rng(0)
    ground = generator.integers(120, 160, SIZE).astype(np.uint8)
    tops = generator.integers(0, SIZE[0] - WALKER[0], WALKERS)
    starts = generator.integers(0, SIZE[1], WALKERS)
    with open_video(path, 10) as video:
        for number in range(FRAMES):
            frame = ground.copy()
            for top, start in zip(tops, starts, strict=True):
                left = (start + 2 * number) % (SIZE[1] - WALKER[1])
                frame[top : top + WALKER[0], left : left + WALKER[1]] = 40
            video.add(np.repeat(frame[..., None], 3, axis=2))
