"""What a run leaves: a model folder that the engine loads, or a LoRA file."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from latte_core import checkpoints
from latte_core.checkpoints.files import replacing, write_json
from latte_core.checkpoints.lora import save_lora
from latte_core.components.preview import fit_preview
from latte_core.components.vae import decode_frames, save_vae
from latte_core.diffusion.loss import BETA_END, BETA_START, TRAIN_STEPS
from latte_core.model import Latte, ModelConfig
from latte_core.training.config import TrainingConfig
from latte_core.training.diffusion import DiffusionTask
from latte_core.training.lora import lora_of
from latte_core.training.networks import Sources

log = logging.getLogger(__name__)

PREVIEW_FRAMES = 64  # at most so many frames tell what colour a latent is
DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


def write_result(
    config: TrainingConfig, task: DiffusionTask, average: Any, sources: Sources, out: Path
) -> Path:
    """Write the averaged model, or its LoRA, to `out`; returns the folder or file."""
    if config.lora is not None:
        path = save_lora(lora_of(average, config.lora.alpha), task.config, out)
        log.info("wrote %s", path)
        return path
    write_model_folder(config, task, average, sources, out)
    log.info("wrote %s", out)
    return out


def write_model_folder(
    config: TrainingConfig, task: DiffusionTask, latte: Latte, sources: Sources, folder: Path
) -> None:
    """Write a folder that the engine loads, all or nothing, in place of one that stands there.

    Without an autoencoder, which a run on cached latents may lack, only the denoiser is written,
    for `convert` to complete.
    """
    dtype = DTYPES[config.result.dtype]
    if task.frozen.vae is None:
        checkpoints.save_transformer(latte, folder / "transformer", dtype)
        log.warning("%s has no autoencoder yet: run convert with --vae on it", folder)
        return
    with replacing(folder) as fresh:
        checkpoints.save_transformer(latte, fresh / "transformer", dtype)
        save_vae(task.frozen.vae, fresh / "vae")
        text = task.config.conditioning == "text" and sources.text_encoder is not None
        if text:
            home = Path(str(sources.text_encoder)).parent
            for part in ("tokenizer", "text_encoder"):
                shutil.copytree(home / part, fresh / part)
        (fresh / "scheduler").mkdir()
        write_json(fresh / "scheduler" / "scheduler_config.json", scheduler_config(config, latte))
        write_json(fresh / "model_index.json", index_of(task.config))
        manifest = checkpoints.build_manifest(
            fresh, _defaults(config, task), _preview(task), _card(config, task, sources)
        )
        checkpoints.write_manifest(fresh, manifest)


def scheduler_config(config: TrainingConfig, latte: Latte) -> dict[str, Any]:
    """The chain that the model was trained on, as diffusers' DDPM reads it."""
    learned = latte.config.learned_variance
    return {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": "0.42.0",
        "num_train_timesteps": TRAIN_STEPS,
        "beta_start": BETA_START,
        "beta_end": BETA_END,
        "beta_schedule": "linear",
        "prediction_type": config.objective.prediction,
        "variance_type": "learned_range" if learned else "fixed_small",
        "clip_sample": False,
    }


def index_of(shape: ModelConfig) -> dict[str, Any]:
    """`model_index.json` of a model of this shape."""
    kind = "LatteTransformer3DModel" if shape.is_t2v else "Latte"
    index: dict[str, Any] = {
        "_class_name": "LattePipeline" if shape.conditioning == "text" else "LatteClassPipeline",
        "_diffusers_version": "0.42.0",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "transformer": ["diffusers" if shape.is_t2v else "latte_core", kind],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if shape.conditioning == "text":
        index["text_encoder"] = ["transformers", "T5EncoderModel"]
        index["tokenizer"] = ["transformers", "T5Tokenizer"]
    return index


def _defaults(config: TrainingConfig, task: DiffusionTask) -> checkpoints.Defaults:
    """Settings of a generation that leaves them open: the size and length of the data."""
    r, vae = config.result, task.frozen.vae
    side = task.latent_side * vae.config.factor if vae else 0
    return checkpoints.Defaults(
        num_inference_steps=r.num_inference_steps,
        guidance_scale=r.guidance_scale,
        num_frames=task.config.num_frames,
        height=side,
        width=side,
        fps=r.fps,
        scheduler=r.scheduler,
    )


def _preview(task: DiffusionTask) -> checkpoints.PreviewMap:
    """Fit latents to the colours that the autoencoder makes of them."""
    latents = task.clean_latents(0).transpose(1, 2).flatten(0, 1)[:PREVIEW_FRAMES]
    vae: Any = task.frozen.vae
    with torch.no_grad():
        return fit_preview(latents, decode_frames(vae, latents))


def _card(config: TrainingConfig, task: DiffusionTask, sources: Sources) -> dict[str, Any]:
    """What the page and other programs may want to say about the model."""
    card: dict[str, Any] = {"name": config.name, "version": "1", "data": config.data.kind}
    if task.config.conditioning == "class":
        names = tuple(task.batches.source.classes)
        count = task.config.num_classes
        card["classes"] = list(names) if len(names) == count else count
    if task.config.conditioning == "text" and sources.text_encoder is not None:
        manifest = checkpoints.read_manifest(sources.text_encoder.parent)
        if manifest is not None and "vocabulary" in manifest.card:
            card["vocabulary"] = manifest.card["vocabulary"]
    return card
