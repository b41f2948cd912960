"""A training recipe: one JSON file that says everything about how the bundled model is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from latte_core.checkpoints import Defaults
from latte_core.components.vae import VaeConfig
from latte_core.data.world import World
from latte_core.errors import ConfigError
from latte_core.model import ModelConfig
from latte_core.training.loop import LoopConfig
from latte_core.training.sampling import Timesteps

T = TypeVar("T")


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Shape and training of the autoencoder; it then encodes `clips` that `workers` draw."""

    shape: VaeConfig
    loop: LoopConfig
    batch_size: int = 16
    kl_weight: float = 2e-4
    edge_weight: float = 0.5
    clips: int = 6000
    workers: int = 0


@dataclass(frozen=True)
class TextEncoderRecipe:
    """Sizes of the T5 encoder."""

    d_model: int = 128
    d_ff: int = 256
    d_kv: int = 32
    num_layers: int = 2
    num_heads: int = 4


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What the network predicts and which timesteps it sees; see `DiffusionLoss`."""

    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    timesteps: Timesteps = "uniform"
    drop: float = 0.1
    length: int = 20
    attention: Literal["auto", "math"] = "auto"


@dataclass(frozen=True)
class StageRecipe:
    """One run of the text-to-video task: clips and stills in a batch (0 clips: stills alone).

    `timesteps` takes the place of the objective's where it is given.
    """

    clips: int
    images: int
    loop: LoopConfig
    gradient_checkpointing: bool = False
    timesteps: Timesteps | None = None


@dataclass(frozen=True)
class ProbeRecipe:
    """Training of the classifier that judges prompt following."""

    loop: LoopConfig
    batch_size: int = 16
    width: int = 32


@dataclass(frozen=True)
class Recipe:
    """All of it. `prompts` are drawn on the sample sheets while the model trains.

    `stills` teaches what things look like, `motion` how the prompt moves them (on noisy clips),
    `video` all of it together.
    """

    name: str
    size: int
    seed: int
    world: World
    autoencoder: AutoencoderRecipe
    text_encoder: TextEncoderRecipe
    transformer: ModelConfig
    objective: ObjectiveRecipe
    stills: StageRecipe
    motion: StageRecipe
    video: StageRecipe
    probe: ProbeRecipe
    defaults: Defaults
    prompts: tuple[str, ...]


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises ConfigError that names a missing, unknown or impossible setting."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error}") from error
    return parse_recipe(data)


def parse_recipe(data: Mapping[str, Any]) -> Recipe:
    """Build a recipe from the content of its JSON file."""
    _check_mapping(data, "the recipe")
    nested = {
        "world": lambda d: _build(World, d, "world"),
        "autoencoder": _parse_autoencoder,
        "text_encoder": lambda d: _build(TextEncoderRecipe, d, "text_encoder"),
        "transformer": lambda d: ModelConfig.from_json(dict(_check_mapping(d, "transformer"))),
        "objective": lambda d: _build(ObjectiveRecipe, d, "objective"),
        "stills": lambda d: _with_loop(StageRecipe, d, "stills"),
        "motion": lambda d: _with_loop(StageRecipe, d, "motion"),
        "video": lambda d: _with_loop(StageRecipe, d, "video"),
        "probe": lambda d: _with_loop(ProbeRecipe, d, "probe"),
        "defaults": lambda d: _build(Defaults, d, "defaults"),
        "prompts": tuple,
    }
    values = {name: nested[name](v) if name in nested else v for name, v in data.items()}
    return _build(Recipe, values, "the recipe")


def _parse_autoencoder(data: Mapping[str, Any]) -> AutoencoderRecipe:
    nested = dict(_check_mapping(data, "autoencoder"))
    if "shape" in nested:
        nested["shape"] = _build(VaeConfig, nested["shape"], "autoencoder.shape")
    return _with_loop(AutoencoderRecipe, nested, "autoencoder")


def _with_loop(kind: type[T], data: Mapping[str, Any], where: str) -> T:
    loop = _build(LoopConfig, _check_mapping(data, where).get("loop", {}), f"{where}.loop")
    return _build(kind, {**data, "loop": loop}, where)


def _build(kind: type[T], data: Mapping[str, Any], where: str) -> T:
    """Call a dataclass with JSON values; lists become tuples."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(_check_mapping(data, where)) - known):
        raise ConfigError(f"{where} has unknown settings: {', '.join(unknown)}.")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{where} is incomplete: {error}.") from error


def _check_mapping(data: Any, where: str) -> Mapping[str, Any]:
    """Return the settings if that is what they are."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} is {data!r}; it has to be an object with named settings.")
    return data
