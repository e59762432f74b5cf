"""The run folder: the only place that writes or reads a trained model.

A run folder holds ``config.json`` (what was trained, on what, how), ``log.jsonl`` (a line an
epoch), and when training is over ``model.safetensors`` (the trained autoencoder and the plain one
it started from) and ``codes.npy`` (the codes of the training images). Until then
``checkpoint.safetensors`` stands for the last two. Where it was asked for, ``snapshots`` holds the
network as it was after some of the epochs.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nearfar.errors import NearfarError
from nearfar.files import (
    ADVICE,
    atomic_path,
    check_output,
    check_own,
    claim_output,
    clear_folder,
    remove_leftovers,
    sync,
    write_json,
)
from nearfar.models import Architecture, Autoencoder
from nearfar.run_config import RunConfig, RunData

#: Raised by one whenever an older nearfar could not read what is written.
FORMAT = 1

CONFIG, MODEL, LOG, CODES = "config.json", "model.safetensors", "log.jsonl", "codes.npy"
CHECKPOINT, BANK, SNAPSHOTS = "checkpoint.safetensors", "bank", "snapshots"
EVALUATION, REPORT, TENSORBOARD, LOCK = "evaluation.json", "report", "tensorboard", "lock"
OWN = {
    *(CONFIG, MODEL, LOG, CODES, CHECKPOINT, BANK, SNAPSHOTS),
    *(EVALUATION, REPORT, TENSORBOARD, LOCK),
}

Role = Literal["autoencoder", "pretrained"]


@contextmanager
def reading(folder: Path, name: str) -> Iterator[None]:
    """Say in one line of anything that goes wrong with a file of a run that it is damaged."""
    try:
        yield
    except _DAMAGED as error:
        reason = str(error) if isinstance(error, NearfarError) else repr(error)
        raise NearfarError(
            f"run {str(folder)!r} is damaged: {name} cannot be read ({reason})"
        ) from error


_DAMAGED = (
    *(OSError, EOFError, SafetensorError, ValueError, TypeError),
    *(LookupError, AttributeError, ArithmeticError, RecursionError),
)


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that `claim_folder` would make an empty run folder.

    Raises
    ------
    NearfarError
        If it would not.
    """
    if overwrite and _is_run(folder):
        check_own(folder, OWN)
    else:
        advice = "it is not a run, so choose another" if overwrite else ADVICE
        check_output(folder, overwrite=False, folder=True, kept={LOCK}, advice=advice)


def claim_folder(folder: Path, *, overwrite: bool) -> None:
    """Make an empty run folder, taking away an earlier run if `overwrite` says so.

    Raises
    ------
    NearfarError
        If something is there already; what is not a run is never taken away.
    """
    if overwrite and _is_run(folder):
        clear_folder(folder, OWN, kept={LOCK}, last=CONFIG)
    check_folder(folder, overwrite=overwrite)
    claim_output(folder, overwrite=True, folder=True).mkdir(exist_ok=True)


def _is_run(folder: Path) -> bool:
    """Whether ``config.json`` is one of ours: others, too, call a file of theirs so."""
    with suppress(*_DAMAGED):
        return "nearfar" in json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return False


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make a run folder, if there is none, and keep others from training in it meanwhile.

    Raises
    ------
    NearfarError
        If another process trains in it.
    """
    lock = FileLock(claim_output(folder / LOCK, overwrite=True))
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise NearfarError(
            f"run {str(folder)!r} is being trained by another process: wait until it is done, "
            "or stop it"
        ) from error
    except (OSError, NotImplementedError):
        pass  # a disk that knows no locks, or cannot be written, which will be said of what matters
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()


def bank_folder(folder: Path) -> Path:
    """Return where a run keeps its bank while it is trained."""
    return folder / BANK


def is_finished(folder: Path) -> bool:
    """Whether a run holds a trained model."""
    return (folder / MODEL).is_file()


def remove_checkpoint(folder: Path) -> None:
    """Take away what only a continuation needs."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(folder / BANK, ignore_errors=True)
    remove_unfinished(folder)


def remove_unfinished(folder: Path) -> None:
    """Take away what killed processes left: each such file may be as large as a checkpoint."""
    for each in (folder, folder / SNAPSHOTS):
        remove_leftovers(each)


def write_config(folder: Path, config: RunConfig) -> None:
    """Write ``config.json``."""
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "nearfar": version("nearfar"),
            "data": asdict(config.data),
            "train": config.train,
            "architecture": config.architecture and config.architecture.to_dict(),
            "pixel_range": config.pixel_range,
        },
    )


def read_config(folder: Path) -> RunConfig:
    """Read ``config.json``.

    Raises
    ------
    NearfarError
        If the folder is not a run, is damaged, or was written in a newer format.
    """
    if not folder.is_dir():
        raise NearfarError(f"run {str(folder)!r} does not exist: expected a folder from train")
    path = folder / CONFIG
    if not path.is_file():
        raise NearfarError(f"{str(folder)!r} is not a run: it has no {CONFIG}")
    with reading(folder, CONFIG):
        saved = json.loads(path.read_text(encoding="utf-8"))
        newer = saved["format"] > FORMAT
    if newer:
        raise NearfarError(
            f"run {str(folder)!r} has format {saved['format']}, written by nearfar "
            f"{saved.get('nearfar')}: this nearfar reads up to {FORMAT}, so install a newer one"
        )
    with reading(folder, CONFIG):
        if "similarity" not in saved["train"]:
            raise NearfarError("train has no similarity")
        described = saved["architecture"]
        return RunConfig(
            RunData(**saved["data"]),
            saved["train"],
            described and Architecture.from_dict(described),
            saved["pixel_range"],
        )


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, read back.

    Parameters
    ----------
    autoencoder : Autoencoder
        The network as trained on the relations.
    pretrained : Autoencoder
        What it started from: the plain autoencoder, or an untrained one, see `start`.
    codes : float32[n, d]
        Codes of the training images, memory-mapped.
    """

    folder: Path
    config: RunConfig
    autoencoder: Autoencoder
    pretrained: Autoencoder
    codes: npt.NDArray[np.float32]

    @property
    def start(self) -> str:
        """What tables call `pretrained`: "autoencoder", or "untrained" after no epochs of that.

        A network of the caller's own may have been trained before, and counts as an autoencoder.
        """
        trained = self.config.train["pretrain_epochs"] or self.config.architecture is None
        return "autoencoder" if trained else "untrained"


def write_run(
    folder: Path,
    config: RunConfig,
    autoencoder: Autoencoder,
    pretrained: Autoencoder,
    codes: npt.NDArray[np.float32] | Path,
) -> None:
    """Write a finished run; the model comes last, so that a run with a model is complete.

    Codes that are in an .npy file already are moved.
    """
    write_config(folder, config)
    if isinstance(codes, Path):
        sync(codes)
        codes.replace(folder / CODES)
    else:
        with atomic_path(folder / CODES) as temporary, temporary.open("wb") as file:
            np.save(file, codes, allow_pickle=False)
    roles: dict[Role, Autoencoder] = {"autoencoder": autoencoder, "pretrained": pretrained}
    tensors = {
        f"{role}.{name}": tensor
        for role, module in roles.items()
        for name, tensor in module.state_dict().items()
    }
    _write_tensors(folder / MODEL, _to_write(tensors), {})


def read_run(
    folder: Path, encoder: nn.Module | None = None, decoder: nn.Module | None = None
) -> TrainedRun:
    """Read a finished run.

    Parameters
    ----------
    encoder, decoder : nn.Module, optional
        The network, if it was the caller's own; two copies of it are filled with the weights.

    Raises
    ------
    NearfarError
        If the run is missing, unfinished, damaged, of a newer format or of another network.
    """
    config = _read_finished(folder)
    autoencoder = build(config, encoder, decoder, where=folder)
    pretrained = build(config, encoder, decoder, where=folder)
    tensors, _ = _read_tensors(folder / MODEL)
    load_weights(autoencoder, tensors, "autoencoder.", folder)
    load_weights(pretrained, tensors, "pretrained.", folder)
    with reading(folder, CODES):
        codes = np.load(folder / CODES, mmap_mode="r", allow_pickle=False)
        if codes.ndim != 2 or codes.dtype != np.float32 or len(codes) != config.data.images:
            raise NearfarError(
                f"{codes.dtype}{list(codes.shape)} instead of float32[{config.data.images}, d]"
            )
    return TrainedRun(folder, config, autoencoder.eval(), pretrained.eval(), codes)


def read_network(folder: Path) -> Autoencoder:
    """Read the trained network of a finished run whose codes need not be there.

    Raises
    ------
    NearfarError
        As `read_run`.
    """
    config = _read_finished(folder)
    network = build(config, None, None, where=folder)
    tensors, _ = _read_tensors(folder / MODEL)
    load_weights(network, tensors, "autoencoder.", folder)
    return network.eval()


def _read_finished(folder: Path) -> RunConfig:
    """What ``config.json`` says of a run that holds a trained model."""
    config = read_config(folder)
    if not is_finished(folder):
        hint = "continue it with --resume" if (folder / CHECKPOINT).is_file() else "train it again"
        raise NearfarError(f"run {str(folder)!r} has no trained model yet: {hint}")
    return config


def build(
    config: RunConfig,
    encoder: nn.Module | None,
    decoder: nn.Module | None,
    where: Path | str = "this configuration",
) -> Autoencoder:
    """Make the network of a run, or copy the caller's own."""
    if (encoder is None) != (decoder is None):
        raise NearfarError("encoder and decoder go together: give both or neither")
    if encoder is not None and decoder is not None:
        return Autoencoder(*deepcopy((encoder, decoder)))  # at once: they may share weights
    if config.architecture is None:
        raise NearfarError(
            f"{str(where)!r} was trained with a network of the caller's own: "
            "give its encoder and decoder"
        )
    try:
        return config.architecture.build()
    except (RuntimeError, TypeError) as error:  # the latter of numbers beyond 64 bits
        raise NearfarError(
            f"no memory for a network with code_size={config.architecture.code_size} and "
            f"widths={config.architecture.widths} on images {config.data.shape}"
        ) from error


def load_weights(
    module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, where: Path
) -> None:
    """Fill a module with the tensors whose names start with `prefix`."""
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise NearfarError(
            f"run {str(where)!r} holds the weights of another network than the one described, or "
            f"given, to read it ({str(error).splitlines()[-1].strip()})"
        ) from error


def write_checkpoint(folder: Path, tensors: Mapping[str, Tensor], position: dict[str, Any]) -> None:
    """Write what is needed to continue training."""
    kept, text = _to_write(tensors), json.dumps(position)
    metadata = {"position": text, "checksum": _checksum(kept, text)}
    _write_tensors(folder / CHECKPOINT, kept, metadata)


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_checkpoint` wrote.

    Raises
    ------
    NearfarError
        If there is none, or it is not as it was written.
    """
    if not (folder / CHECKPOINT).is_file():
        raise NearfarError(f"run {str(folder)!r} cannot be continued: it has no {CHECKPOINT}")
    tensors, metadata = _read_tensors(folder / CHECKPOINT)
    with reading(folder, CHECKPOINT):
        if metadata["checksum"] != _checksum(tensors, metadata["position"]):
            raise NearfarError("it is not as it was written")
        return tensors, json.loads(metadata["position"])


def _checksum(tensors: Mapping[str, Tensor], position: str) -> str:
    """Of all that a checkpoint holds: training would go on from damaged numbers unnoticed."""
    total = zlib.crc32(position.encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def write_snapshot(folder: Path, epochs: int, weights: Mapping[str, Tensor]) -> None:
    """Keep the network as it is after so many epochs."""
    (folder / SNAPSHOTS).mkdir(exist_ok=True)
    _write_tensors(_snapshot(folder, epochs), weights, {})


def has_snapshot(folder: Path, epochs: int) -> bool:
    """Whether a run kept the network as it was after so many epochs."""
    return _snapshot(folder, epochs).is_file()


def read_snapshot(
    folder: Path,
    epochs: int,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> Autoencoder:
    """Read a network as it was after so many epochs, see `nearfar.training.train.train`.

    Parameters
    ----------
    encoder, decoder : nn.Module, optional
        The network, if it was the caller's own; a copy of it is filled with the weights.

    Raises
    ------
    NearfarError
        If the run kept none, is damaged, or of another network.
    """
    config = read_config(folder)
    path = _snapshot(folder, epochs)
    if not has_snapshot(folder, epochs):
        raise NearfarError(f"run {str(folder)!r} has no snapshot after {epochs} epochs")
    network = build(config, encoder, decoder, where=folder)
    tensors, _ = _read_tensors(path)
    load_weights(network, tensors, "", folder)
    return network.eval()


def _snapshot(folder: Path, epochs: int) -> Path:
    return folder / SNAPSHOTS / f"{epochs}.safetensors"


def write_evaluation(folder: Path, evaluation: Mapping[str, Any]) -> None:
    """Keep the scores of a run beside it."""
    write_json(folder / EVALUATION, evaluation)


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """Read the scores of a run, if it was evaluated."""
    path = folder / EVALUATION
    if not path.is_file():
        return None
    with reading(folder, EVALUATION):
        evaluation: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return evaluation


def append_log(folder: Path, line: Mapping[str, Any]) -> None:
    """Add an epoch to ``log.jsonl``."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def write_log(folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write ``log.jsonl`` anew."""
    with atomic_path(folder / LOG) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read ``log.jsonl``; a last line that a crash cut short is left out."""
    path = folder / LOG
    with reading(folder, LOG):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [_record(json.loads(line)) for line in lines if line.endswith("\n")]


def _record(line: Any) -> dict[str, Any]:
    """Check that a line of the log tells of an epoch: its phase, its number, and measurements."""
    numbers = {name: value for name, value in line.items() if name != "phase"}
    if not isinstance(line["phase"], str) or not isinstance(line["epoch"], int):
        raise NearfarError(f"epoch {line['epoch']!r} of phase {line['phase']!r}")
    for name, value in numbers.items():
        if not isinstance(value, int | float | None):
            raise NearfarError(f"{name}={value!r}: expected a number")
    return dict(line)


def _to_write(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, none of which shares memory with another."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    with atomic_path(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata={"format": "pt", **metadata})
        except SafetensorError as error:
            raise NearfarError(f"{str(path)!r} cannot be written: {error}") from error


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with reading(path.parent, path.name), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
