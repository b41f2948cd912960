"""Clips of the world as latents on disk, encoded once and read many times."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latte_core.data.render import render_covered
from latte_core.data.world import ClipSpec, World
from latte_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentClips:
    """Encoded clips and what they show: latents (N, C, F, h, w) and one spec each.

    `covers` uint8 (N, F, h, w) says where the subjects are: how much of the pixel that they cover
    most, of those that a latent stands for, 255 for all of it.
    """

    latents: Tensor
    specs: tuple[ClipSpec, ...]
    covers: Tensor


@dataclass(frozen=True)
class Renders:
    """Clip i and its cover as uint8 (16, H, W, 3) and (16, H, W).

    A map-style data set, so that many processes can draw.
    """

    specs: Sequence[ClipSpec]
    size: int

    def __len__(self) -> int:
        """How many clips there are."""
        return len(self.specs)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw a clip."""
        return render_covered(self.specs[number], 16, self.size)


def encode_clips(
    renders: Renders, encode: Callable[[np.ndarray], Tensor], workers: int = 0
) -> LatentClips:
    """Encode every clip; `encode` maps uint8 (F, H, W, 3) to latents (F, C, h, w).

    `workers` processes draw ahead of the encoder, none with 0. The latents are kept in half
    precision.
    """
    import torch
    from torch.nn.functional import adaptive_max_pool2d
    from torch.utils.data import DataLoader

    loader: DataLoader[tuple[np.ndarray, np.ndarray]] = DataLoader(
        renders,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # torch means batches, these are none
    )
    latents, covers, count = [], [], len(renders)
    for number, (frames, cover) in enumerate(loader):
        latents.append(encode(frames).half().transpose(0, 1))
        side = latents[-1].shape[-2:]
        covers.append(adaptive_max_pool2d(torch.from_numpy(cover).float(), side).byte())
        if (number + 1) % 500 == 0:
            log.info("encoded %d of %d clips", number + 1, count)
    return LatentClips(torch.stack(latents), tuple(renders.specs), torch.stack(covers))


def _as_it_is(drawn: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Keep numpy; a named function, since workers may be started by pickling it."""
    return drawn


def draw_specs(world: World, count: int, seed: int) -> list[ClipSpec]:
    """Draw training clips. Clip i is the same for the same seed, whatever the count."""
    return [world.draw(np.random.default_rng((seed, i))) for i in range(count)]


def save_clips(clips: LatentClips, path: Path) -> None:
    """Write clips as safetensors, their specs in its metadata."""
    from safetensors.torch import save_file

    metadata = {"specs": json.dumps([asdict(s) for s in clips.specs])}
    tensors = {"latents": clips.latents.contiguous(), "covers": clips.covers.contiguous()}
    save_file(tensors, path, metadata=metadata)


def load_clips(path: Path) -> LatentClips:
    """Read clips that `save_clips` wrote. Raises DataError if there are none, or no covers."""
    from safetensors import safe_open

    if not path.is_file():
        raise DataError(f"There are no encoded clips at {path}; train the autoencoder first.")
    with safe_open(path, "pt") as file:
        if "covers" not in file.keys():  # noqa: SIM118 - it is not a mapping
            raise DataError(f"The clips at {path} do not say where subjects are: encode them anew.")
        specs = tuple(ClipSpec(**spec) for spec in json.loads(file.metadata()["specs"]))
        return LatentClips(file.get_tensor("latents"), specs, file.get_tensor("covers"))
