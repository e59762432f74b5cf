"""Configuration of a training run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, cast, get_args

from nearfar.config.network import ConvNet, NetworkConfig
from nearfar.config.objective import (
    NeighborSearch,
    ObjectiveConfig,
    RelationalObjective,
    SimilarityName,
)
from nearfar.config.optim import Optim
from nearfar.config.pretext import Plain, Pretext, SplitBrain
from nearfar.errors import NearfarError
from nearfar.fields import check_fields, check_ranges

Precision = Literal["32", "bf16"]

#: Sections with alternatives, by the `kind` named in a record, a file or an option.
KINDS: dict[str, dict[str, type]] = {
    "objective": {each.kind: each for each in get_args(ObjectiveConfig)},
    "pretext": {each.kind: each for each in get_args(Pretext)},
    "network": {each.kind: each for each in get_args(NetworkConfig)},
}
#: Classes that are recorded field by field; custom objects are recorded by name, even if they are
#: dataclasses.
SECTIONS = (*(kind for kinds in KINDS.values() for kind in kinds.values()), NeighborSearch, Optim)
CUSTOM = "custom"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a training run, grouped into sections.

    Parameters
    ----------
    objective : RelationalObjective, ContrastiveObjective or callable
        Objective of the second phase; or a function that takes a `nearfar.training.Context` and
        returns a `nearfar.training.Objective`.
    pretext : Plain, Denoising, Inpainting or SplitBrain
        Corruption that the autoencoder learns to undo, in both phases.
    network : ConvNet, Backbone or nearfar.models.Autoencoder
        Network to train. An `Autoencoder` is copied.
    optim : Optim
        Epochs, batches and learning rates.
    seed : int
        Random seed for initial weights, image order and all sampling, in [0, 2³² − 1].
    device : str
        "auto", "cpu", "cuda" or "mps", or a specific device, such as "cuda:1".
    precision : {"32", "bf16"}
        Numerical precision. "32": float32. "bf16": bfloat16 mixed precision.

    Raises
    ------
    NearfarError
        If a setting is out of range, or two settings conflict.

    Examples
    --------
    >>> from nearfar.config import ContrastiveObjective, Optim, TrainConfig
    >>> config = TrainConfig(objective=ContrastiveObjective(), optim=Optim(epochs=10))
    >>> config.optim.epochs
    10
    """

    objective: ObjectiveConfig | Callable[..., Any] = RelationalObjective()
    pretext: Pretext = Plain()
    network: NetworkConfig | Callable[..., Any] = ConvNet()
    optim: Optim = Optim()
    seed: int = 0
    device: str = "auto"
    precision: Precision = "32"

    def __post_init__(self) -> None:
        if name_of(self.device) == "torch.device":  # torch is not imported here
            object.__setattr__(self, "device", str(self.device))
        check_fields(self)
        check_ranges(self, seed="[0, 4294967295]")
        if isinstance(self.pretext, SplitBrain) and not isinstance(self.network, ConvNet):
            raise NearfarError("pretext='split-brain' needs a ConvNet: expected another pretext")

    @property
    def method(self) -> str:
        """Name of the method in tables: the objective or, without a second phase, "autoencoder"."""
        if self.optim.epochs == 0:
            return "autoencoder"
        built_in = self._built_in_objective
        return built_in.name if built_in else name_of(self.objective).rpartition(".")[2]

    @property
    def similarity(self) -> SimilarityName | Callable[..., Any]:
        """Similarity measure for embeddings."""
        built_in = self._built_in_objective
        return built_in.similarity if built_in else "cosine"

    @property
    def trains_decoder(self) -> bool:
        """Whether the decoder is trained in either phase.

        Custom objectives are assumed to train the decoder.
        """
        built_in = self._built_in_objective
        return self.optim.pretrain_epochs > 0 or built_in is None or built_in.trains_decoder

    @property
    def _built_in_objective(self) -> ObjectiveConfig | None:
        return self.objective if isinstance(self.objective, ObjectiveConfig) else None

    def for_trial(self) -> TrainConfig:
        """Return the settings, adapted to a trial run of two epochs per phase on a few images."""
        optim = replace(
            self.optim,
            pretrain_epochs=2 * (self.optim.pretrain_epochs > 0),
            epochs=2 * (self.optim.epochs > 0),
        )
        built_in = self._built_in_objective
        return replace(
            self, optim=optim, objective=built_in.for_trial() if built_in else self.objective
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a nested, JSON-compatible dictionary.

        Custom objects are represented by their names.
        """
        saved: dict[str, Any] = _to_json(self)
        return saved

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> TrainConfig:
        """Rebuild a configuration from the result of `to_dict`.

        Custom objects become `Recorded` objects, which can be compared but not used.

        Raises
        ------
        NearfarError
            If the dictionary is not a result of `to_dict`.
        """
        try:
            sections = {name: saved[name] for name in KINDS}
            return cls(
                **{name: _read_section(KINDS[name], each) for name, each in sections.items()},
                optim=Optim(**saved["optim"]),
                **{name: saved[name] for name in ("seed", "device", "precision")},
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise NearfarError(f"not a training configuration ({error!r})") from error


@dataclass(frozen=True)
class Recorded:
    """Name of a custom object, as recorded in a run.

    Examples
    --------
    >>> Recorded("lab.Rotation").name
    'lab.Rotation'
    """

    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raise an error, since only the name of the object was recorded."""
        raise NearfarError(f"the run was trained with your own {self.name}: pass it again")


def name_of(custom: Any) -> str:
    """Return the qualified name of a custom object, or of its class.

    Examples
    --------
    >>> name_of(Recorded), name_of(partial(Recorded, "lab.Rotation"))
    ('nearfar.config.train.Recorded', 'nearfar.config.train.Recorded')
    """
    if isinstance(custom, Recorded):
        return custom.name
    if isinstance(custom, partial):
        return name_of(custom.func)
    if not hasattr(custom, "__qualname__"):
        custom = type(custom)
    return f"{custom.__module__}.{custom.__qualname__}"


def _to_json(value: Any) -> Any:
    if isinstance(value, (*SECTIONS, TrainConfig)):
        kind = getattr(value, "kind", None)
        items = {
            field.name: _to_json(getattr(value, field.name)) for field in fields(cast(Any, value))
        }
        return items if kind is None else {"kind": kind, **items}
    if isinstance(value, tuple):
        return list(value)
    return {CUSTOM: name_of(value)} if callable(value) else value


def _read_section(kinds: Mapping[str, type], saved: Mapping[str, Any]) -> Any:
    values = {name: _from_json(value) for name, value in saved.items()}
    if CUSTOM in saved:
        return Recorded(saved[CUSTOM])
    return kinds[values.pop("kind")](**values)


def _from_json(value: Any) -> Any:
    """Rebuild a custom object or a nested section from JSON. Return other values unchanged."""
    if not isinstance(value, Mapping):
        return value
    if CUSTOM in value:
        return Recorded(value[CUSTOM])
    return NeighborSearch(**{name: _from_json(each) for name, each in value.items()})
