"""A training recipe: one JSON file that says everything about how the bundled model is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from latte_core.checkpoints import Defaults
from latte_core.components.vae import VaeConfig
from latte_core.data.world import World
from latte_core.errors import ConfigError
from latte_core.model import ModelConfig
from latte_core.training.loop import LoopConfig
from latte_core.training.sampling import Timesteps
from latte_core.training.settings import build, read_settings
from latte_core.training.stage_names import LEARNED
from latte_core.training.turbo import States


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Shape and training of the autoencoder; it then encodes `clips` that `workers` draw.

    `learns` says which half of it: with "decoder" one that a run starts from keeps its latents, so
    that a denoiser trained on them goes on as it is. `mirrored` is the share of clips that are seen
    in a mirror; weights and `favoured` are as in a `StageRecipe`.
    """

    shape: VaeConfig
    loop: LoopConfig
    batch_size: int = 16
    kl_weight: float = 2e-4
    edge_weight: float = 0.5
    subject_weight: float = 1.0
    contrast_power: float = 0.0
    learns: Literal["all", "decoder"] = "all"
    mirrored: float = 0.0
    favoured: Mapping[str, float] = field(default_factory=dict, hash=False)
    clips: int = 6000
    workers: int = 0

    def __post_init__(self) -> None:
        """Refuse an impossible weight, what is no share, and odds that draw nothing."""
        _check_power(self.contrast_power)
        _check_odds(self.favoured)
        _check_share("mirrored", self.mirrored)


@dataclass(frozen=True)
class TextEncoderRecipe:
    """Sizes of the T5 encoder."""

    d_model: int = 128
    d_ff: int = 256
    d_kv: int = 32
    num_layers: int = 2
    num_heads: int = 4


@dataclass(frozen=True)
class OrderRecipe:
    """Teaching the text encoder which of two subjects comes first, on so many captions a batch.

    States move by `strength` of their length; see `latte_core.training.order`.
    """

    loop: LoopConfig
    captions: int = 64
    strength: float = 0.6


def _check_power(contrast_power: float) -> None:
    """Refuse what would make faint subjects count less, or more than their contrast takes away."""
    if not 0 <= contrast_power <= 1:
        raise ConfigError(
            f"contrast_power is {contrast_power}; it must lie between 0, where all count alike, "
            "and 1, where an error counts relative to the contrast."
        )


def _check_share(name: str, value: float) -> None:
    """Refuse what is no share of a whole."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value}; it is a share and must lie in 0..1.")


def _check_odds(favoured: Mapping[str, float]) -> None:
    """Refuse numbers that draw a clip never or always."""
    for name, times in favoured.items():
        if not isinstance(times, int | float) or not 0 < times < math.inf:
            raise ConfigError(f"favoured.{name} is {times!r}; it must be a number above 0.")


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What the network predicts and which timesteps it sees; see `DiffusionLoss`.

    Stills share their clip's timestep, unless `image_timesteps` says how to draw each still's own.
    """

    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    timesteps: Timesteps = "uniform"
    image_timesteps: Timesteps | None = None
    drop: float = 0.1
    length: int = 20
    attention: Literal["auto", "math"] = "auto"


@dataclass(frozen=True)
class StageRecipe:
    """One run of the text-to-video task: clips and stills in a batch (0 clips: stills alone).

    `timesteps` and `image_timesteps` take the place of the objective's where they are given; where
    a subject is, the error counts `subject_weight` times. `pairs` is the share of clips and stills
    that show two subjects, by default as many as were encoded. `favoured` maps names to how many
    times as often their clips are drawn, and faint subjects' error counts more with a
    `contrast_power` above 0, see `latte_core.data.emphasis`.
    """

    clips: int
    images: int
    loop: LoopConfig
    gradient_checkpointing: bool = False
    timesteps: Timesteps | None = None
    image_timesteps: Timesteps | None = None
    subject_weight: float = 1.0
    pairs: float | None = None
    favoured: Mapping[str, float] = field(default_factory=dict, hash=False)
    contrast_power: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no share, and odds that draw nothing."""
        if self.pairs is not None:
            _check_share("pairs", self.pairs)
        _check_power(self.contrast_power)
        _check_odds(self.favoured)


@dataclass(frozen=True)
class TurboRecipe:
    """Distillation of the finished model into `steps` steps without guidance.

    The student's steps are worth `substeps` of the teacher's each, which is guided by
    `guidance_scale`. Clips and stills are those of a batch; `states` says whether the student is
    taught on them, noised, or on its own path from noise under their captions.
    """

    clips: int
    images: int
    loop: LoopConfig
    steps: int = 8
    substeps: int = 2
    guidance_scale: float = 2.5
    states: States = "noised"


@dataclass(frozen=True)
class ProbeRecipe:
    """Training of the classifier that judges prompt following.

    A share `frozen` of its clips stands still, as the stills of joint mode do; a share `composed`
    has one of the world's compositions for certain. `learns` says what of it: with "new" only what
    a probe that the run starts from lacks, so that what that one judges stays as it is.
    """

    loop: LoopConfig
    batch_size: int = 16
    width: int = 32
    frozen: float = 0.25
    composed: float = 0.4
    learns: Literal["all", "new"] = "all"


@dataclass(frozen=True)
class Recipe:
    """All of it. `prompts` are drawn on the sample sheets while the model trains.

    `order` teaches which of two subjects is told first, if the world has pairs, `stills` what
    things look like, `motion` how the prompt moves them (on noisy clips), `video` all of it
    together, `turbo` to do it in few steps.
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
    turbo: TurboRecipe
    probe: ProbeRecipe
    defaults: Defaults
    prompts: tuple[str, ...]
    order: OrderRecipe | None = None

    def __post_init__(self) -> None:
        """Refuse to teach an order where there is one subject, and latents that do not fit."""
        latent, read = self.autoencoder.shape.latent_channels, self.transformer.in_channels
        if latent != read:
            raise ConfigError(
                f"autoencoder.shape.latent_channels is {latent}, transformer.in_channels {read}: "
                "give both the same number, and transformer.out_channels twice that."
            )
        if self.order is not None and "pair" not in self.world.compositions:
            raise ConfigError(
                'The recipe has "order", but its world shows one subject at a time: add "pair" to '
                "world.compositions, or take order out."
            )
        for part in ("autoencoder", "stills", "motion", "video"):
            if unknown := set(getattr(self, part).favoured) - self.world.names:
                raise ConfigError(
                    f"{part}.favoured has {', '.join(sorted(unknown))}, which the world does not "
                    "show: name its subjects, motions, scenes or plain colours."
                )

    @property
    def trained(self) -> tuple[str, ...]:
        """The stages that learn, in their order."""
        return tuple(stage for stage in LEARNED if getattr(self, stage) is not None)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises ConfigError that names a missing, unknown or impossible setting."""
    return parse_recipe(read_settings(path))


def parse_recipe(data: Mapping[str, Any]) -> Recipe:
    """Build a recipe from the content of its JSON file."""
    return build(Recipe, data, "the recipe")
