"""Put trained parts into a model folder in the Latte-1 layout, ready for engine and diffusers."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latte_core import checkpoints
from latte_core.components.preview import fit_preview
from latte_core.components.vae import encode_frames, load_vae, save_vae
from latte_core.data.captions import LANGUAGES
from latte_core.data.hints import nearest_words
from latte_core.data.pixels import to_pixels
from latte_core.data.render import render_clip
from latte_core.diffusion.loss import BETA_END, BETA_START, TRAIN_STEPS
from latte_core.model import Latte
from latte_core.training.recipe import Recipe
from latte_core.training.stages import (
    TEXT_TO_VIDEO,
    TURBO,
    last_stage,
    make_text_encoder,
    read_summary,
)
from latte_core.training.text_to_video import TextToVideo
from latte_core.training.weights import WEIGHTS, load_average

PARTS = ("tokenizer", "text_encoder", "transformer", "vae", "scheduler")
INDEX = {
    "_class_name": "LattePipeline",
    "_diffusers_version": "0.42.0",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", "LatteTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write_bundle(recipe: Recipe, run: Path, folder: Path) -> None:
    """Write the model folder from a run's `vae`, its last stage and its summaries.

    A model card that stands in the folder already is kept.
    """
    text_encoder = make_text_encoder(recipe)
    model = TextToVideo(Latte(recipe.transformer), text_encoder.model)
    load_average(model, run / (last_stage(run) or TEXT_TO_VIDEO[-1]))
    vae = load_vae(run / "vae")
    folder.mkdir(parents=True, exist_ok=True)
    for part in (*PARTS, checkpoints.TURBO_FOLDER):
        shutil.rmtree(folder / part, ignore_errors=True)
    text_encoder.save(folder)
    checkpoints.save_transformer(model.latte, folder / "transformer")
    if (run / TURBO / WEIGHTS).is_file():
        load_average(model, run / TURBO)
        checkpoints.save_transformer(model.latte, folder / checkpoints.TURBO_FOLDER)
    save_vae(vae, folder / "vae")
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler_config(recipe))
    _write_json(folder / "model_index.json", INDEX)
    manifest = checkpoints.build_manifest(
        folder, recipe.defaults, _preview(recipe, vae), card_of(recipe, run)
    )
    checkpoints.write_manifest(folder, manifest)


def scheduler_config(recipe: Recipe) -> dict[str, Any]:
    """The chain that the model was trained on, as diffusers' DDIM reads it."""
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.42.0",
        "num_train_timesteps": TRAIN_STEPS,
        "beta_start": BETA_START,
        "beta_end": BETA_END,
        "beta_schedule": "linear",
        "prediction_type": recipe.objective.prediction,
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "thresholding": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
    }


def _preview(recipe: Recipe, vae: Any) -> checkpoints.PreviewMap:
    """Fit latents to colours on frames of the world."""
    rng = np.random.default_rng(recipe.seed + 13)
    frames = np.concatenate(
        [render_clip(recipe.world.draw(rng), 16, recipe.size, only=(3, 12)) for _ in range(128)]
    )
    with torch.no_grad():
        return fit_preview(encode_frames(vae, to_pixels(frames)), frames)


def card_of(recipe: Recipe, run: Path) -> dict[str, Any]:
    """What the page and other programs may want to say about the model."""
    world = recipe.world
    turbo = {"turbo": {"num_inference_steps": recipe.turbo.steps}}
    return {
        "name": recipe.name,
        "version": "1",
        "description": "A small Latte, trained on this project's own captioned world.",
        **_told(recipe, world.languages[0]),
        "translations": {language: _told(recipe, language) for language in world.languages[1:]},
        "world": asdict(world),
        "aliases": nearest_words(world),
        "autoencoder": read_summary(run / "autoencoder"),
        **(turbo if (run / TURBO / WEIGHTS).is_file() else {}),
    }


def _told(recipe: Recipe, name: str) -> dict[str, Any]:
    """The words of one language by kind, and those of the sheet's prompts that are in it."""
    language = LANGUAGES[name]
    words = language.words(recipe.world)
    examples = [prompt for prompt in recipe.prompts if words.issuperset(prompt.split())]
    return {"vocabulary": language.kinds(recipe.world), "examples": examples}


def _write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
