"""Write a small random class or unconditional model folder, as `convert` lays it out."""

import json
from pathlib import Path

import torch
from tiny_folder import BETAS, FRAMES, SIZE, randomise, tiny_vae

from latte_core import Latte, ModelConfig
from latte_core.checkpoints import (
    Defaults,
    build_manifest,
    plain_preview,
    save_transformer,
    write_manifest,
)

CLASSES = ("Basketball", "Apply Eye Makeup", "Archery", "Diving", "Yo Yo")
# What the release was sampled with, but for few steps.
DEFAULTS = Defaults(4, 7.0, FRAMES, SIZE, SIZE, 8, "ddpm")
INDEX = {
    "_class_name": "LatteClassPipeline",
    "scheduler": ["diffusers", "DDPMScheduler"],
    "transformer": ["latte_core", "Latte"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write_tiny_class_folder(folder: Path, *, scheduler=None, card=None, vae=True, **config) -> Path:
    """A Latte of 4 blocks with 5 classes (0: unconditional), an autoencoder, DDPM; about 1 MB.

    `config` overrides fields of ModelConfig, `scheduler` those of the scheduler's config. `card`
    adds a manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    transformer = randomise(Latte(class_config(**config)), seed=1)
    save_transformer(transformer, folder / "transformer", torch.float32)
    if vae:
        channels = transformer.config.in_channels
        randomise(tiny_vae(channels), seed=2).save_pretrained(folder / "vae")
    (folder / "scheduler").mkdir()
    written = {**DDPM, **(scheduler or {})}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(written))
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    if card is not None:
        preview = plain_preview(transformer.config.in_channels)
        write_manifest(folder, build_manifest(folder, DEFAULTS, preview, card))
    return folder


# The published chain: 1000 linear betas, learned variance, timesteps from end to end.
DDPM = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    **BETAS,
    "variance_type": "learned_range",
    "clip_sample": False,
    "prediction_type": "epsilon",
    "timestep_spacing": "linspace",
}


def class_config(**fields) -> ModelConfig:
    """A small model of 5 classes; `num_classes=0` makes an unconditional one."""
    classes = fields.pop("num_classes", len(CLASSES))
    return ModelConfig(
        **{
            "hidden_size": 48,
            "depth": 4,
            "num_heads": 4,
            "sample_size": SIZE // 8,
            "num_frames": FRAMES,
            "num_classes": classes,
            "conditioning": "class" if classes else "none",
            **fields,
        }
    )
