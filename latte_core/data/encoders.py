"""The VAE and the text encoder of a model folder, as `write_shards` takes them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latte_core.checkpoints import model_hash, read_manifest
from latte_core.components.prompt_cleaning import clean_prompt, simplify_prompt
from latte_core.components.text_encoder import MAX_TOKENS, TextEncoder, load_text_encoder
from latte_core.components.vae import encode_frames, load_vae
from latte_core.data.pixels import to_pixels
from latte_core.data.shards import Encoders
from latte_core.errors import CheckpointError

log = logging.getLogger(__name__)


def load_encoders(
    folder: Path, device: str = "auto", batch: int = 8, texts: bool = True
) -> Encoders:
    """Read the VAE of a model folder, and its text encoder if `texts` and there is one.

    The mean of the VAE's posterior is taken, so the same frame always gives the same latents.
    `batch` frames are encoded at once. Raises CheckpointError if the folder holds no VAE.
    """
    if not (folder / "vae").is_dir():
        raise CheckpointError(
            f"{folder} has no folder vae: give a whole model folder, or add the vae it belongs to."
        )
    place = _device(device)
    vae = load_vae(folder / "vae").to(place)

    def encode(frames: NDArray[np.uint8]) -> Tensor:
        parts = [frames[start : start + batch] for start in range(0, len(frames), batch)]
        return torch.cat([encode_frames(vae, to_pixels(part).to(place)).cpu() for part in parts])

    manifest = read_manifest(folder)
    name = f"{folder.resolve().name} {model_hash(folder)}"
    if not texts or not (folder / "text_encoder").is_dir():
        return Encoders(encode, name=name)
    encoder = load_text_encoder(folder, _text_dtype(place))
    network: Any = encoder.model  # transformers' `to` is typed as a decorator
    network.to(place)
    closed = manifest is not None and manifest.card.get("vocabulary") is not None
    return Encoders(encode, _text(encoder, closed), encoder.encode_null(2)[0], name)


def _text(encoder: TextEncoder, closed: bool) -> Callable[[str], Any]:
    """Caption -> (L, D), prepared as the engine prepares a prompt."""

    def encode(caption: str) -> Tensor:
        known = encoder.unknown_words
        text = simplify_prompt(caption, known) if closed else clean_prompt(caption)
        if tail := encoder.cut_text(text):
            log.warning("a caption is over %d tokens, its end is dropped: %r", MAX_TOKENS, tail)
        return encoder.encode(text)[0]

    return encode


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _text_dtype(device: str) -> torch.dtype:
    """T5 overflows in float16; bfloat16 halves its 18 GB on a GPU."""
    return torch.bfloat16 if device.startswith("cuda") else torch.float32
