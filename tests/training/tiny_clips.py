"""Clips in memory and the tasks on them, for tests of training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from latte_core.data.latent_set import LatentClip
from latte_core.diffusion.loss import DiffusionLoss
from latte_core.model import Latte, ModelConfig
from latte_core.training.config import SheetConfig
from latte_core.training.diffusion import DiffusionTask, Frozen
from latte_core.training.recipe import ObjectiveRecipe
from latte_core.training.samples import CaptionReader, SampleBatches

WIDTH = 20  # of prompt embeddings


@dataclass(frozen=True)
class MadeUpClips:
    """Latents that carry their own number: clip k has k + frame / 100 everywhere, label k % 3.

    The prompt of clip k is k + 1 rows of value k.
    """

    count: int = 6
    frames: int = 4
    side: int = 4
    labelled: bool = True
    told: bool = True
    classes: tuple[str, ...] = ("ape", "bee", "cow")

    @property
    def latent_shape(self):
        return (4, self.side, self.side)

    def __len__(self):
        return self.count

    def null_prompt(self, length):
        return np.full((length, WIDTH), -1, np.float16)

    def read_clip(self, index, rng):
        return self._clip(index, list(range(self.frames)))

    def read_image(self, index, rng):
        return self._clip(index, [int(rng.integers(self.frames))])

    def _clip(self, index, frames):
        values = (index + np.array(frames) / 100).astype(np.float16)
        latents = np.broadcast_to(
            values[None, :, None, None], (4, len(frames), self.side, self.side)
        )
        return LatentClip(
            np.ascontiguousarray(latents),
            index % 3 if self.labelled else None,
            f"clip {index}" if self.told else None,
            f"clip-{index}",
            np.full((index + 1, WIDTH), index, np.float16) if self.told else None,
        )


def tiny_shape(conditioning="class", **fields: Any) -> ModelConfig:
    """A network of two or four blocks for `MadeUpClips`."""
    values: dict[str, Any] = {
        "hidden_size": 24,
        "depth": 2,
        "num_heads": 2,
        "sample_size": 4,
        "num_frames": 4,
        "conditioning": conditioning,
        "num_classes": 3 if conditioning == "class" else 0,
        "caption_channels": WIDTH if conditioning == "text" else 0,
        "injection": "adaln_single" if conditioning == "text" else "adaln_zero",
    }
    return ModelConfig(**(values | fields))


def tiny_task(shape: ModelConfig, images=0, batch=2, seed=0, **settings: Any) -> DiffusionTask:
    """Train a tiny network on `MadeUpClips`."""
    torch.manual_seed(seed)
    captions = None
    clips = MadeUpClips()
    if shape.conditioning == "text":
        captions = CaptionReader(8, None, clips.null_prompt)
    return DiffusionTask(
        Latte(shape),
        shape,
        SampleBatches(clips, batch, images, shape.num_classes, captions, 0.1, seed=5),
        Frozen(),
        DiffusionLoss("epsilon", shape.learned_variance),
        ObjectiveRecipe(**settings),
        SheetConfig(steps=2, samples=2),
    )


def stir(model, seed=0):
    """Give every weight a push: untrained, the network answers 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
