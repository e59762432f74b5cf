"""Detector folder: ``detector.json``, and ``methods`` with one folder per method.

While a detector is being fitted, its settings are in ``unfinished.json`` and its checkpoints in
``scratch``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nearfar import runs
from nearfar.anomaly.config import DetectorConfig
from nearfar.anomaly.detector import Detector
from nearfar.anomaly.patches import Grid
from nearfar.anomaly.registry import Method, find_method
from nearfar.anomaly.scale import Scale
from nearfar.errors import NearfarError, reason
from nearfar.files import (
    ADVICE,
    UNFINISHED,
    check_files,
    claim_output,
    clear_folder,
    remove_empty_on_failure,
    remove_leftovers,
    unfinished_output,
    write_json,
)

#: Version of the format.
FORMAT = 3
_CONFIG, _UNFINISHED, _METHODS, _SCRATCH = "detector.json", "unfinished.json", "methods", "scratch"
_OWN = {_CONFIG, _UNFINISHED, _METHODS, _SCRATCH}


@contextmanager
def open_output(out: Path, names: Collection[str]) -> Iterator[None]:
    """Clear a folder for output, and mark it as unfinished until the context ends.

    After an error, the output is removed. After an interruption, it is kept, unless nothing was
    scored.

    Parameters
    ----------
    out : Path
        Output folder. Earlier output in it is removed.
    names : collection of str
        Names that the folder may contain.

    Raises
    ------
    NearfarError
        If the folder contains anything else, or cannot be written to.
    """
    if out.is_dir():
        check_files(out, names)
    with _writing(out), remove_empty_on_failure(out):
        out.mkdir(parents=True, exist_ok=True)
        with unfinished_output(out):
            clear_folder(out, names, keep={UNFINISHED})
            try:
                yield
            except BaseException as error:
                if not isinstance(error, KeyboardInterrupt) or not _has_rows(out):
                    clear_folder(out, names, keep={UNFINISHED})
                (out / UNFINISHED).unlink(missing_ok=True)
                raise


def _has_rows(out: Path) -> bool:
    """Return whether scores are complete. Alerts are written after the scores."""
    return (out / "alerts.json").is_file()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Convert a disk error to a one-line error that names the file or folder."""
    try:
        yield
    except NearfarError:
        raise
    except OSError as error:
        path = str(error.filename or folder)
        raise NearfarError(f"cannot write to {path!r}: {reason(error)}") from error


@contextmanager
def open_for_fitting(
    folder: Path, settings: dict[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[Path]:
    """Prepare a folder for a detector, and yield its scratch folder.

    On success, the scratch folder is deleted. If a new fit raises an error, the whole folder is
    deleted. After an interruption or a disk error, the folder is kept, so that the fit can be
    resumed.

    Parameters
    ----------
    folder : Path
        Folder of the detector.
    settings : dict
        JSON-compatible settings, which must be the same when the fit is resumed.
    resume : bool
        Whether to continue an unfinished fit.
    overwrite : bool
        Whether to replace an existing detector.

    Raises
    ------
    NearfarError
        If there is nothing to resume, if settings differ, or if the folder contains other files.
    """
    settings = json.loads(json.dumps(settings))
    with remove_empty_on_failure(folder):
        if resume:
            _check_same(folder, settings)
            remove_leftovers(folder)
        else:
            known = [name for name in (_CONFIG, _UNFINISHED) if (folder / name).is_file()]
            if overwrite and known:
                clear_folder(folder, _OWN, last=known[0])
            advice = "it is not a detector, so choose another" if overwrite else ADVICE
            claim_output(folder, overwrite=False, folder=True, advice=advice).mkdir(exist_ok=True)
            remove_leftovers(folder)
            write_json(folder / _UNFINISHED, settings)
        for name in (_METHODS, _SCRATCH):
            (folder / name).mkdir(exist_ok=True)
        try:
            yield folder / _SCRATCH
        except NearfarError as error:
            if not resume and not isinstance(error.__cause__, OSError):
                clear_folder(folder, _OWN)
            raise
    shutil.rmtree(folder / _SCRATCH)
    (folder / _UNFINISHED).unlink()


def is_unfinished(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder contains an unfinished detector, so that the fit can be resumed.

    Examples
    --------
    >>> is_unfinished("no/such/folder")
    False
    """
    return (Path(folder) / _UNFINISHED).is_file()


def has_method(folder: Path, name: str) -> bool:
    """Return whether a method was written to a detector folder."""
    return (folder / _METHODS / name).is_dir()


def write_method(folder: Path, method: Method) -> None:
    """Write a fitted method to a detector folder atomically."""
    partial = folder / _SCRATCH / f"partial-{method.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    method.write(partial)
    partial.rename(folder / _METHODS / method.name)


def read_methods(folder: Path, config: DetectorConfig) -> list[Method]:
    """Read the methods of a detector folder."""
    return [find_method(name).read(folder / _METHODS / name, config) for name in config.methods]


def write_detector(folder: Path, detector: Detector) -> None:
    """Write scale, threshold and settings to a detector folder, which is then complete."""
    write_json(
        folder / _CONFIG,
        {
            "format": FORMAT,
            "config": asdict(detector.config),
            "size": detector.size,
            "scale": None if detector.scale is None else detector.scale.levels.tolist(),
            "threshold": detector.threshold,
            "calibrated_on": detector.calibrated_on,
            "expected_false_alarms": detector.expected_false_alarms,
            "rate": detector.rate,
            "continuous": detector.continuous,
        },
    )


def read_detector(folder: str | os.PathLike[str]) -> Detector:
    """Read a detector written by `fit_detector`.

    Parameters
    ----------
    folder : str or path
        Folder of the detector.

    Raises
    ------
    NearfarError
        If the detector is missing, unfinished or damaged, has a different format, or uses a method
        that is not registered.

    Examples
    --------
    >>> read_detector("no/such/folder")
    Traceback (most recent call last):
    nearfar.errors.NearfarError: 'no/such/folder' is not a detector: it has no detector.json; fit
    one
    """
    folder = Path(folder)
    if not (folder / _CONFIG).is_file():
        if is_unfinished(folder):
            raise NearfarError(f"detector {str(folder)!r} is unfinished: fit it with --resume")
        raise NearfarError(f"{str(folder)!r} is not a detector: it has no {_CONFIG}; fit one")
    with runs.explain_damage(folder, _CONFIG):
        saved = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        version, names = int(saved["format"]), list(saved["config"].get("methods", ()))
    if version != FORMAT:
        remedy = "install a newer nearfar" if version > FORMAT else "fit it again"
        raise NearfarError(
            f"detector {str(folder)!r} has format {version}, expected {FORMAT}: {remedy}"
        )
    for name in names:
        find_method(name)
    with runs.explain_damage(folder, _CONFIG):
        config = DetectorConfig(**saved["config"])
        size = int(saved["size"][0]), int(saved["size"][1])
        grid = Grid(config.scaled_size(size), config.patch, config.stride)
        threshold, calibrated_on = float(saved["threshold"]), int(saved["calibrated_on"])
        continuous = bool(saved.get("continuous", False))
        rate = None if saved["rate"] is None else float(saved["rate"])
        scale = None
        if config.needs_scale:
            scale = Scale(np.array(saved["scale"], np.float32))
            rows = grid.shape[0] if config.scale_by_row else 1
            if scale.levels.shape != (len(config.methods), rows):
                raise NearfarError(f"a scale of shape {scale.levels.shape}")
    methods = read_methods(folder, config)
    return Detector(
        config,
        grid,
        methods,
        scale,
        threshold,
        calibrated_on,
        rate,
        expected_false_alarms=saved.get("expected_false_alarms"),
        size=size,
        continuous=continuous,
    )


def _check_same(folder: Path, settings: dict[str, Any]) -> None:
    """Check that an unfinished detector was started with the same settings."""
    if not is_unfinished(folder):
        raise NearfarError(f"{str(folder)!r} holds no unfinished detector: fit without --resume")
    with runs.explain_damage(folder, _UNFINISHED):
        before = json.loads((folder / _UNFINISHED).read_text(encoding="utf-8"))
        changed = [name for name in settings if before[name] != settings[name]]
    if changed:
        raise NearfarError(
            f"detector {str(folder)!r} was started with different {changed[0]}: resume it with the "
            "same settings and frames"
        )
