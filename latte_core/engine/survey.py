"""What a model folder holds, from its headers and configs alone: sizes, defaults, classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from latte_core.checkpoints import LATTE_1_DEFAULTS, TURBO_FOLDER, Defaults
from latte_core.checkpoints.files import read_header, read_json
from latte_core.components.autoencoder_kl import pixels_per_latent
from latte_core.engine.plans import ModelSizes
from latte_core.errors import CheckpointError

# Parameters that bitsandbytes leaves alone in a T5 encoder.
UNPACKED = (".wo.", "shared.", "embed_tokens.", "relative_attention_bias.", "norm.")
TEMPORAL_CHUNK = 8  # frames that the temporal decoder takes at once; 3.2 GB at 512 x 512 in fp16


def check_vae(folder: Path) -> None:
    """Raise CheckpointError, saying how to add one, for our own kind of folder without a `vae`.

    Published class models come as the transformer alone.
    """
    kind = read_json(folder / "model_index.json").get("transformer")
    if kind == ["latte_core", "Latte"] and not (folder / "vae").is_dir():
        raise CheckpointError(
            f"{folder / 'vae'} is missing: without an autoencoder, latents do not become pictures. "
            "The published class models were trained with Stable Diffusion's (4 channels, 8 pixels "
            "a latent; diffusers folder sd-vae-ft-ema or the vae of Latte-1). Add it with "
            f"python -m latte_core convert {folder} NEW_FOLDER --vae VAE_FOLDER."
        )


def conditioning_of(transformer: dict[str, Any]) -> str:
    """What a transformer's config.json says that the model is told: text, class or none."""
    # diffusers' own layout, which knows no such key, is of text models only.
    return str(transformer.get("conditioning", "none" if "hidden_size" in transformer else "text"))


def class_names(card: dict[str, Any], num_classes: int) -> tuple[str, ...]:
    """Names of the classes by label, from the card; their numbers where it names none.

    Raises CheckpointError if the card names more or fewer than there are.
    """
    names = card.get("classes")
    if not isinstance(names, list):
        return tuple(map(str, range(num_classes)))
    if len(names) != num_classes:
        raise CheckpointError(
            f"The model's card names {len(names)} classes, its transformer has {num_classes}: "
            "correct `classes` in latte_manifest.json, or convert the model again."
        )
    return tuple(map(str, names))


def folder_defaults(transformer: dict[str, Any], vae: dict[str, Any]) -> Defaults:
    """Defaults of a folder without a manifest: the released model's, at the transformer's size.

    Class models are guided as the UCF101 release was; an unconditional model cannot be.
    """
    defaults = LATTE_1_DEFAULTS
    if (kind := conditioning_of(transformer)) != "text":
        defaults = replace(
            defaults,
            num_inference_steps=250,
            scheduler="ddpm",
            guidance_scale=7.0 if kind == "class" else 1.0,
        )
    side = int(transformer.get("sample_size", 64)) * pixels_per_latent(_widths(vae))
    frames = transformer.get("video_length", transformer.get("num_frames"))
    return replace(
        defaults,
        num_frames=int(frames or defaults.num_frames),
        height=side,
        width=side,
    )


def measure(
    folder: Path, transformer: dict[str, Any], vae: dict[str, Any], defaults: Defaults
) -> ModelSizes:
    """Count the folder's parameters from the headers of its files, and its default shapes."""
    reads_text = conditioning_of(transformer) == "text"
    text = _shapes(folder / "text_encoder") if reads_text else {}
    packed = {
        name: count
        for name, count in text.items()
        if name.endswith(".weight") and not any(part in name for part in UNPACKED)
    }
    heads, width = transformer.get("num_attention_heads"), transformer.get("attention_head_dim")
    hidden = heads * width if heads and width else transformer.get("hidden_size", 1152)
    widths = _widths(vae)
    patch = pixels_per_latent(widths) * int(transformer.get("patch_size", 2))
    tubes = defaults.num_frames // int(transformer.get("patch_frames", 1))
    temporal = folder / "vae_temporal_decoder"
    return ModelSizes(
        text=sum(text.values()),
        text_packed=sum(packed.values()),
        transformer=sum(
            sum(_shapes(folder / name).values()) for name in ("transformer", TURBO_FOLDER)
        ),
        vae=sum(_shapes(folder / "vae").values()) + sum(_shapes(temporal).values()),
        hidden_size=int(hidden),
        tokens=tubes * (defaults.height // patch) * (defaults.width // patch),
        decoder_elements=widths[min(1, len(widths) - 1)] * defaults.height * defaults.width,
        frames_at_once=TEMPORAL_CHUNK if temporal.is_dir() else 1,
        halves=1 if conditioning_of(transformer) == "none" else 2,
        # Of diffusers' layout a layer is a pair of blocks, one of space and one of time.
        blocks=int(transformer.get("depth") or 2 * transformer.get("num_layers", 1)),
    )


def _widths(vae: dict[str, Any]) -> Sequence[int]:
    """Widths of an autoencoder's stages, those of Stable Diffusion's where nothing is said."""
    widths: Sequence[int] = vae.get("block_out_channels", (128, 256, 512, 512))
    return widths


def _shapes(folder: Path) -> dict[str, int]:
    """Number of elements of every tensor of a component."""
    counts: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, entry in read_header(path).items():
            total = 1
            for side in entry["shape"]:
                total *= side
            counts[name] = total
    return counts
