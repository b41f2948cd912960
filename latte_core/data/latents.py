"""Clips of the world as latents on disk, encoded once and read many times."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latte_core.data.world import ClipSpec, World, render_clip
from latte_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentClips:
    """Encoded clips and what they show: latents (N, 4, F, h, w) and one spec each."""

    latents: Tensor
    specs: tuple[ClipSpec, ...]


def encode_clips(
    world: World, size: int, count: int, encode: Callable[[np.ndarray], Tensor], seed: int
) -> LatentClips:
    """Render `count` training clips and encode each: `encode` maps uint8 (F, H, W, 3) to latents.

    Clip i is the same for the same seed, whatever the count. The latents are kept in half
    precision.
    """
    import torch

    specs = [world.draw(np.random.default_rng((seed, i))) for i in range(count)]
    latents = []
    for number, spec in enumerate(specs):
        latents.append(encode(render_clip(spec, 16, size)).half().transpose(0, 1))
        if (number + 1) % 500 == 0:
            log.info("encoded %d of %d clips", number + 1, count)
    return LatentClips(torch.stack(latents), tuple(specs))


def save_clips(clips: LatentClips, path: Path) -> None:
    """Write clips as safetensors, their specs in its metadata."""
    from safetensors.torch import save_file

    metadata = {"specs": json.dumps([asdict(s) for s in clips.specs])}
    save_file({"latents": clips.latents.contiguous()}, path, metadata=metadata)


def load_clips(path: Path) -> LatentClips:
    """Read clips that `save_clips` wrote. Raises DataError if there are none."""
    from safetensors import safe_open

    if not path.is_file():
        raise DataError(f"There are no encoded clips at {path}; train the autoencoder first.")
    with safe_open(path, "pt") as file:
        specs = json.loads(file.metadata()["specs"])
        return LatentClips(file.get_tensor("latents"), tuple(ClipSpec(**s) for s in specs))
