"""Make what a configuration names: the clips, the frozen networks, the denoiser."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latte_core.checkpoints import initialise, read_manifest, resolve_model
from latte_core.checkpoints.files import read_json
from latte_core.components.text_encoder import load_text_encoder
from latte_core.components.vae import load_vae
from latte_core.data.latent_set import open_shards
from latte_core.data.video_set import VideoSource, open_source
from latte_core.data.world import World
from latte_core.errors import ConfigError
from latte_core.model import Latte, ModelConfig, preset, zero_init_temporal
from latte_core.training.config import DataConfig, TrainingConfig
from latte_core.training.diffusion import Frozen
from latte_core.training.samples import CaptionReader, ClipSet, SampleBatches, WorldClips

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Folders that a run reads, found on disk or on the hub; None where there is none."""

    start: Path | None
    vae: Path | None
    text_encoder: Path | None


def find_sources(config: TrainingConfig) -> Sources:
    """Find the folders that the configuration names. Raises CheckpointError for a missing one."""
    start = None if config.start.path is None else _find(config.start.path)
    parts = {}
    for part in ("vae", "text_encoder"):
        named = getattr(config.parts, part)
        folder = start if named is None else _find(named)
        if folder is not None and (folder / part).is_dir():
            parts[part] = folder / part
        elif named is not None and part == "vae" and folder is not None:
            parts[part] = folder  # an autoencoder's own folder
        elif named is not None:
            raise ConfigError(f"parts.{part} is {named!r}, but there is no {part} folder in it.")
    return Sources(start, parts.get("vae"), parts.get("text_encoder"))


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    return path if path.exists() else resolve_model(name)


def open_clips(data: DataConfig, seed: int) -> ClipSet:
    """The clips that are learned from. Raises DataError if there are none."""
    if data.kind == "world":
        world = data.world or World()
        return WorldClips(world, data.clips, data.num_frames, data.size, seed)
    if data.kind == "shards":
        root = Path(str(data.root)).expanduser()
        return open_shards(root, data.num_frames, data.stride, data.flip)
    source = VideoSource(
        data.kind,
        Path(str(data.root)),
        data.num_frames,
        data.stride,
        data.size,
        split=data.split,
        split_list=data.split_list,
        flip=data.flip,
        captions=None if data.captions is None else Path(data.captions),
    )
    videos = open_source(source)
    log.info("%d clips in %s", len(videos), data.root)
    return videos


def load_frozen(config: TrainingConfig, sources: Sources) -> Frozen:
    """The autoencoder and the text encoder, where they are needed and named."""
    vae = None if sources.vae is None else load_vae(sources.vae)
    if vae is None and config.data.kind != "shards":
        raise ConfigError(
            f"Learning from pixels ({config.data.kind}) needs an autoencoder: give parts.vae the "
            "folder of one, such as stabilityai's sd-vae-ft-ema."
        )
    if vae is not None:
        vae.requires_grad_(False).eval()
    if sources.text_encoder is None or config.data.kind == "shards":
        return Frozen(vae)
    folder = sources.text_encoder.parent
    manifest = read_manifest(folder)
    closed = manifest is not None and manifest.card.get("vocabulary") is not None
    return Frozen(vae, load_text_encoder(folder), closed)


def make_latte(config: TrainingConfig, sources: Sources, clips: ClipSet, frozen: Frozen) -> Latte:
    """The denoiser: new, or with the weights that `start.path` holds, in float32."""
    if sources.start is not None:
        _check_prediction(config, sources.start)
        fields = dict(config.model.fields)
        if config.data.num_frames > 1:
            fields.setdefault("num_frames", config.data.num_frames)
        latte = initialise(sources.start, **fields).float().train()
    else:
        latte = Latte(new_shape(config, clips, frozen))
    if config.start.zero_temporal:
        zero_init_temporal(latte)
    latte.gradient_checkpointing = config.model.gradient_checkpointing
    _check_clips(latte.config, clips, frozen)
    return latte


def new_shape(config: TrainingConfig, clips: ClipSet, frozen: Frozen) -> ModelConfig:
    """Shape of a network that starts from nothing; what the data decide is filled in."""
    fields, data = dict(config.model.fields), config.data
    cached = getattr(clips, "latent_shape", None)
    if cached is not None:
        channels, side, _ = cached
    else:
        vae: Any = frozen.vae
        channels = vae.config.latent_channels
        side = data.size // vae.config.factor
    known: dict[str, Any] = {
        "num_frames": data.num_frames,
        "sample_size": side,
        "in_channels": channels,
        "out_channels": 2 * fields.get("in_channels", channels),
    }
    if fields.get("conditioning") == "class":
        known["num_classes"] = len(clips.classes)
    if fields.get("conditioning") == "text":
        known["caption_channels"] = _caption_channels(clips, frozen)
    chosen = config.model.preset
    if chosen is None:
        return ModelConfig.from_json(known | fields)
    return preset(chosen, **(known | fields))


def _caption_channels(clips: ClipSet, frozen: Frozen) -> int:
    """Width of the captions' embeddings, as the encoder or the shards have it; 0 if neither."""
    if frozen.text_encoder is not None:
        return frozen.text_encoder.width
    embeds = getattr(clips.read_clip(0, np.random.default_rng(0)), "prompt_embeds", None)
    return 0 if embeds is None else int(embeds.shape[1])


def _check_clips(shape: ModelConfig, clips: ClipSet, frozen: Frozen) -> None:
    """A text model needs captions as it reads them."""
    if shape.conditioning == "text":
        width = _caption_channels(clips, frozen)
        if width != shape.caption_channels:
            raise ConfigError(
                f"The model reads captions of width {shape.caption_channels}, and there are some "
                f"of width {width}: give parts.text_encoder its folder, or cache captions with it."
            )


def _check_prediction(config: TrainingConfig, start: Path) -> None:
    """What the network predicted so far is what it goes on to predict."""
    path = start / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return
    found = read_json(path).get("prediction_type", "epsilon")
    if found != config.objective.prediction:
        raise ConfigError(
            f"objective.prediction is {config.objective.prediction!r}, but the model in {start} "
            f"predicts {found!r}: set it to that."
        )


def make_batches(
    config: TrainingConfig, shape: ModelConfig, clips: ClipSet, frozen: Frozen
) -> SampleBatches:
    """Batches for a network of this shape."""
    captions = None
    if shape.conditioning == "text":
        null = getattr(clips, "null_prompt", None)
        captions = CaptionReader(
            config.objective.length, frozen.text_encoder, null, frozen.closed_vocabulary
        )
    return SampleBatches(
        clips,
        config.data.batch_size,
        config.data.images,
        shape.num_classes,
        captions,
        config.objective.drop,
        config.loop.seed,
    )
