"""The configuration of a training run: one JSON file, one tree of settings, each documented here.

`python -m latte_core train assets/configs/ucf101.json --folder runs/ucf101 --out models/ucf101`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from latte_core.data.world import World
from latte_core.errors import ConfigError
from latte_core.training.loop import LoopConfig
from latte_core.training.recipe import ObjectiveRecipe
from latte_core.training.settings import build, read_settings

DataKind = Literal[
    "world", "folder", "faceforensics", "skytimelapse", "taichi-hd", "ucf101", "shards"
]
LoraTarget = Literal["space", "time", "prompt", "mlp"]


@dataclass(frozen=True)
class DataConfig:
    """What is learned from, and how a batch is put together.

    kind: `folder` (videos, captions beside them if there are any), one of the four published sets,
    `shards` (latents that `write_shards` cached), or `world` (this project's own captioned world,
    rendered on the fly; its classes are the subjects).
    root: the set's folder; not for `world`.
    split, split_list: which part of a set that is split, and by which of UCF101's three divisions.
    captions: file with captions for a folder; without it one in the root is looked for.
    flip: probability of mirroring a clip; without it the set's own.
    num_frames, stride: a clip is so many frames, every stride-th of the video.
    size: side of a frame in pixels; clips are cropped to a square and resized.
    batch_size: clips in a batch of one process.
    images: stills behind each clip, of other clips and with labels or captions of their own: the
    paper's joint training. 0 trains on video alone; `num_frames` 1 on images alone.
    world, clips: what the world shows, and how many clips of it make an epoch.
    posterior: latents are a `sample` of what the autoencoder finds likely, as published, or its
    `mean`.
    """

    kind: DataKind
    root: str | None = None
    split: str = "train"
    split_list: int = 1
    captions: str | None = None
    flip: float | None = None
    num_frames: int = 16
    stride: int = 3
    size: int = 256
    batch_size: int = 5
    images: int = 0
    world: World | None = None
    clips: int = 5000
    posterior: Literal["sample", "mean"] = "sample"

    def __post_init__(self) -> None:
        """Refuse what cannot be read."""
        for name in ("num_frames", "stride", "size", "batch_size", "clips"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.images < 0:
            raise ConfigError(f"data.images is {self.images}; it must be 0 or more.")
        if (self.root is None) != (self.kind == "world"):
            raise ConfigError(
                f"data.root is {self.root!r} with kind {self.kind!r}: every kind but 'world' "
                "needs the folder that its files are in, and 'world' has none."
            )


@dataclass(frozen=True)
class PartsConfig:
    """The frozen networks around the denoiser.

    vae: folder of an autoencoder, or a model folder that holds one. Needed to learn from pixels
    and to draw sample sheets.
    text_encoder: model folder with `tokenizer` and `text_encoder`. Needed for text models that
    learn from captions.
    Both default to the folder that training starts from, if there is one.
    """

    vae: str | None = None
    text_encoder: str | None = None


@dataclass(frozen=True)
class ModelChoice:
    """The network.

    preset: a published size such as "XL/2"; without one, `fields` describe the network whole, or
    change the one that training starts from.
    fields: fields of `ModelConfig`, which take precedence. What the data say is filled in where a
    field is left out: num_frames, sample_size, in_channels, num_classes, caption_channels.
    gradient_checkpointing: forget activations and compute them again, which saves memory.
    """

    preset: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class StartConfig:
    """Where the weights come from.

    path: a model folder or hub id, a file of the original Latte (.pt), DiT or PixArt-alpha (image
    models, whose blocks become space attention); without a path, weights are drawn.
    zero_temporal: time attention starts as the identity, so that each frame is at first what the
    space blocks make of it. What starts from an image model begins so without being told.
    """

    path: str | None = None
    zero_temporal: bool = False


@dataclass(frozen=True)
class LoraConfig:
    """Learn small additions to a frozen network (LoRA, arXiv 2106.09685).

    rank: inner width of an addition; its weights grow with it.
    alpha: additions are scaled by alpha / rank.
    targets: which layers get one: attention in `space`, in `time`, to the `prompt`, and the `mlp`.
    dropout: share of inputs that an addition does not see while it learns.
    """

    rank: int = 16
    alpha: float = 16.0
    targets: tuple[LoraTarget, ...] = ("space", "time", "prompt")
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.rank < 1 or not self.targets or not 0 <= self.dropout < 1:
            raise ConfigError("lora needs a rank of 1 or more, a target, and dropout in 0..1.")


@dataclass(frozen=True)
class SheetConfig:
    """What the sample sheets show while the model learns.

    prompts: for a text model; without any, the prompts of the first batch.
    classes: labels for a class model; without any, the first eight.
    samples: clips of a model that is told nothing.
    steps: DDIM steps.
    guidance_scale: guidance of the samples; 1 is none.
    """

    prompts: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()
    samples: int = 8
    steps: int = 20
    guidance_scale: float = 4.0


@dataclass(frozen=True)
class ResultConfig:
    """How the trained model is written.

    dtype: of the denoiser's weights.
    scheduler, num_inference_steps, guidance_scale, fps: settings of a generation that leaves them
    open.
    """

    dtype: Literal["fp16", "fp32"] = "fp16"
    scheduler: str = "ddpm"
    num_inference_steps: int = 250
    guidance_scale: float = 7.0
    fps: int = 8


@dataclass(frozen=True)
class TrainingConfig:
    """All of a run. See the classes of the parts.

    name: of the model that comes out.
    objective: prediction, distribution of timesteps, for stills apart if they have their own,
    `drop` (share of labels or captions that are left out, for guidance), `length` (tokens of a
    caption), `attention`.
    lora: without it, all weights learn.
    loop: steps, rate, average, precision, processes; see `LoopConfig`.
    """

    name: str
    data: DataConfig
    parts: PartsConfig = field(default_factory=PartsConfig)
    model: ModelChoice = field(default_factory=ModelChoice)
    start: StartConfig = field(default_factory=StartConfig)
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    lora: LoraConfig | None = None
    loop: LoopConfig = field(default_factory=LoopConfig)
    sheet: SheetConfig = field(default_factory=SheetConfig)
    result: ResultConfig = field(default_factory=ResultConfig)

    def __post_init__(self) -> None:
        """Refuse combinations that make no sense."""
        if self.lora is not None and self.start.path is None:
            raise ConfigError("lora adds to weights that are there: give start.path.")
        if self.model.preset is not None and self.start.path is not None:
            raise ConfigError(
                f"model.preset is {self.model.preset!r}, but start.path says which network it is: "
                "leave one of them out."
            )


def parse_config(data: Mapping[str, Any]) -> TrainingConfig:
    """Build a configuration from the content of its JSON file."""
    return build(TrainingConfig, data, "the configuration")


def load_config(path: Path) -> TrainingConfig:
    """Read a configuration. Raises ConfigError that names the setting that is wrong."""
    return parse_config(read_settings(path))


def write_config(config: TrainingConfig, path: Path) -> None:
    """Write a configuration whole, defaults included, as `load_config` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")
