"""Clips of the world as latents on disk, encoded once and read many times."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latte_core.data.render import render_clip
from latte_core.data.world import ClipSpec, World
from latte_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentClips:
    """Encoded clips and what they show: latents (N, 4, F, h, w) and one spec each."""

    latents: Tensor
    specs: tuple[ClipSpec, ...]


@dataclass(frozen=True)
class Renders:
    """Clip i as uint8 (16, H, W, 3); a map-style data set, so that many processes can draw."""

    specs: Sequence[ClipSpec]
    size: int

    def __len__(self) -> int:
        """How many clips there are."""
        return len(self.specs)

    def __getitem__(self, number: int) -> np.ndarray:
        """Draw a clip."""
        return render_clip(self.specs[number], 16, self.size)


def encode_clips(
    renders: Renders, encode: Callable[[np.ndarray], Tensor], workers: int = 0
) -> LatentClips:
    """Encode every clip; `encode` maps uint8 (F, H, W, 3) to latents (F, 4, h, w).

    `workers` processes draw ahead of the encoder, none with 0. The latents are kept in half
    precision.
    """
    import torch
    from torch.utils.data import DataLoader

    loader: DataLoader[np.ndarray] = DataLoader(
        renders,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # torch means batches, these are none
    )
    latents, count = [], len(renders)
    for number, frames in enumerate(loader):
        latents.append(encode(frames).half().transpose(0, 1))
        if (number + 1) % 500 == 0:
            log.info("encoded %d of %d clips", number + 1, count)
    return LatentClips(torch.stack(latents), tuple(renders.specs))


def _as_it_is(frames: np.ndarray) -> np.ndarray:
    """Keep numpy; a named function, since workers may be started by pickling it."""
    return frames


def draw_specs(world: World, count: int, seed: int) -> list[ClipSpec]:
    """Draw training clips. Clip i is the same for the same seed, whatever the count."""
    return [world.draw(np.random.default_rng((seed, i))) for i in range(count)]


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
