"""Task 2: Latte and its text encoder, trained together on clips and stills.

As in the paper's joint image-video training, stills ride behind the clip on the frame axis, each
with a caption of its own; time attention does not see them. A run starts with stills alone, so
that the space blocks know the world before the time blocks learn how it moves.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from latte_core.components.text_encoder import TextEncoder
from latte_core.components.vae import decode_frames
from latte_core.data.captions import write_caption
from latte_core.data.emphasis import contrasts_of, drawing_odds, gains
from latte_core.data.latents import LatentClips
from latte_core.diffusion.loss import DiffusionLoss
from latte_core.errors import DataError
from latte_core.model import Latte
from latte_core.training.loop import Losses
from latte_core.training.sampling import (
    Draws,
    Timesteps,
    attention_kernels,
    diffusion_losses,
    lay_out,
    sample_ddim,
)

Batch = dict[str, Tensor]
# Numbers of the clips of one kind, and the sums of their odds, None where all are alike.
Kind = tuple[NDArray[np.int64], NDArray[np.float64] | None]


@dataclass(frozen=True)
class ClipBatches(Dataset):
    """Batch n: `clips` clips with `images` stills behind each, or stills alone if clips is 0.

    Yields latents (B, C, F+I, h, w), how far subjects cover them (B, F+I, h, w) in 0..1, how many
    times their error counts there `gains` (B, F+I), token ids and masks (B, P, L) and prompt
    lengths as masks `reads` (B, P, L), where P is 1 + I (1 for stills alone). A tenth of the
    captions is dropped.

    With `pairs` that share of clips and stills shows two subjects, where else as many do as there
    are. For `favoured` and `contrast_power` see `latte_core.data.emphasis`.
    """

    source: LatentClips
    text_encoder: TextEncoder
    clips: int
    images: int
    length: int = 20
    drop: float = 0.1
    seed: int = 0
    languages: tuple[str, ...] = ("en",)
    pairs: float | None = None
    favoured: Mapping[str, float] = field(default_factory=dict)
    contrast_power: float = 0.0

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng((self.seed, number))
        latents, covers, gained, specs = [], [], [], []
        for _ in range(self.clips or self.images):
            stills = [self._still(rng) for _ in range(self.images if self.clips else 1)]
            parts = [self._clip(rng), *stills] if self.clips else stills
            latents.append(torch.cat([self.source.latents[k][:, at] for k, at in parts], dim=1))
            covers.append(torch.cat([self.source.covers[k][at] for k, at in parts]))
            gained.append(torch.cat([self._gains[k, at] for k, at in parts]))
            specs += [self.source.specs[k] for k, _ in parts]
        words = random.Random(int(rng.integers(1 << 31)))
        captions = [write_caption(spec, words, self.languages) for spec in specs]
        return {
            "latents": torch.stack(latents).float(),
            "covers": torch.stack(covers).float() / 255,
            "gains": torch.stack(gained),
            **self._tokens(captions, rng),
        }

    def _clip(self, rng: np.random.Generator) -> tuple[int, slice]:
        """Draw a clip: its number, and all of its frames."""
        kind = 0 if self.pairs is None else int(rng.random() < self.pairs)
        numbers, reached = self._kinds[kind]
        if reached is None:
            return int(numbers[rng.integers(len(numbers))]), slice(None)
        return int(numbers[np.searchsorted(reached, rng.random() * reached[-1])]), slice(None)

    @cached_property
    def _kinds(self) -> list[Kind]:
        """All clips; with `pairs` those of one subject, and those of two."""
        of_two = np.array([bool(spec.partner) for spec in self.source.specs])
        numbers = np.arange(len(of_two))
        kinds = [numbers] if self.pairs is None else [numbers[~of_two], numbers[of_two]]
        if not all(map(len, kinds)):
            raise DataError(
                f"pairs is {self.pairs}, but {of_two.sum()} of {len(of_two)} clips show two "
                "subjects, which leaves no choice: take out the setting, or encode clips of a "
                "world with the composition pair."
            )
        odds = drawing_odds(self.source.specs, self.favoured)
        if odds is None:
            return [(kind, None) for kind in kinds]
        return [(kind, np.cumsum(odds[kind])) for kind in kinds]

    @cached_property
    def _gains(self) -> Tensor:
        """How many times the error on each clip's subject counts, (N, F)."""
        clips, frames = self.source.covers.shape[:2]
        if not self.contrast_power:
            return torch.ones(clips, frames)
        return gains(contrasts_of(self.source), self.contrast_power)[:, None].expand(-1, frames)

    def _still(self, rng: np.random.Generator) -> tuple[int, slice]:
        """Draw a single frame of a clip of its own."""
        k, _ = self._clip(rng)
        frame = int(rng.integers(self.source.latents.shape[2]))
        return k, slice(frame, frame + 1)

    def noise(self, count: int, frames: int) -> Tensor:
        """What samples for looking at begin with, (count, C, frames, h, w), always the same."""
        channels, _, height, width = self.source.latents.shape[1:]
        generator = torch.Generator().manual_seed(7)
        return torch.randn((count, channels, frames, height, width), generator=generator)

    def _tokens(self, captions: list[str], rng: np.random.Generator) -> Batch:
        """Token ids, masks and what counts, P of each a sample."""
        dropped = torch.from_numpy(rng.random(len(captions)) < self.drop)
        tokens = tokenize_captions(self.text_encoder, captions, self.length, dropped)
        prompts = 1 + self.images if self.clips else 1
        return {name: value.unflatten(0, (-1, prompts)) for name, value in tokens.items()}


def tokenize_captions(
    text_encoder: TextEncoder, captions: list[str], length: int, dropped: Tensor
) -> Batch:
    """Token ids and masks (N, L) of captions; `reads` (N, L) says which positions count.

    Where `dropped` (N,) holds, the ids are those of the empty prompt, laid out to the caption's
    length: its end token, then as many padding rows as the caption has tokens.
    """
    ids, mask = text_encoder.tokenize(captions, length)
    reads = mask.clone()
    ids[dropped], mask[dropped] = text_encoder.tokenize([""], length)
    return {"ids": ids, "mask": mask, "reads": reads}


class TextToVideo(nn.Module):
    """Text encoder and Latte as one forward pass, so that both learn."""

    def __init__(self, latte: Latte, text_encoder: nn.Module) -> None:
        super().__init__()
        self.latte = latte
        self.text_encoder = text_encoder

    def forward(self, latents: Tensor, timesteps: Tensor, batch: Batch, num_images: int) -> Tensor:
        """Noisy latents (B, C, F+I, h, w) and the batch's tokens -> (B, C_out, F+I, h, w)."""
        prompts = batch["ids"].shape[1]
        states = self.text_encoder(
            input_ids=batch["ids"].flatten(0, 1), attention_mask=batch["mask"].flatten(0, 1)
        ).last_hidden_state
        embeds = states.unflatten(0, (-1, prompts))
        return self.latte(latents, timesteps, embeds, batch["reads"], num_images=num_images)


@dataclass
class TextToVideoTask:
    """Train `TextToVideo` with the paper's loss.

    For `attention`, `timesteps` and `image_timesteps` see `latte_core.training.sampling`. Where a
    subject is, the error counts `subject_weight` times, times the batch's gain: subjects are what
    is looked at, and cover a tenth of the picture.
    """

    model: TextToVideo
    batches: ClipBatches
    text_encoder: TextEncoder
    vae: Any
    objective: DiffusionLoss = field(default_factory=DiffusionLoss)
    timesteps: Timesteps = "uniform"
    image_timesteps: Timesteps | None = None
    attention: Literal["auto", "math"] = "auto"
    prompts: Sequence[str] = ()
    guidance_scale: float = 2.5
    subject_weight: float = 1.0

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Losses:
        """Mean squared error plus variational bound, over clips and stills alike."""
        num_images = self.batches.images if self.batches.clips else 1

        def forward(noisy: Tensor, steps: Tensor) -> Tensor:
            with attention_kernels(self.attention):
                return model(noisy, steps, batch, num_images)

        return diffusion_losses(
            self.objective,
            batch["latents"],
            Draws(self.timesteps, num_images, self.image_timesteps),
            generator,
            forward,
            1 + (self.subject_weight * batch["gains"][..., None, None] - 1) * batch["covers"],
        )

    def picture(self, model: nn.Module) -> Image.Image:
        """Six frames of each fixed prompt's clip (or one still), a row each, two columns."""
        frames = 16 if self.batches.clips else 1
        clips = sample_clips(model, self, list(self.prompts), frames)
        shown = [clip[:: 3 if frames > 1 else 1] for clip in clips]
        rows = [np.concatenate(list(clip), axis=1) for clip in shown]
        return lay_out(rows, 2 if frames > 1 else 8, scale=2)


@torch.no_grad()
def sample_clips(
    model: nn.Module, task: TextToVideoTask, prompts: list[str], frames: int, steps: int = 16
) -> list[np.ndarray]:
    """Draw one clip (or still) per prompt with DDIM on evenly spaced steps, for looking at.

    Returns uint8 (F, H, W, 3) each.
    """
    x = task.batches.noise(len(prompts), frames)
    ids, mask = task.text_encoder.tokenize(prompts, task.batches.length)
    empty = task.text_encoder.tokenize([""], task.batches.length)
    both = {
        "ids": torch.cat([empty[0].expand_as(ids), ids])[:, None],
        "mask": torch.cat([empty[1].expand_as(mask), mask])[:, None],
        "reads": torch.cat([mask, mask])[:, None],
    }
    device = next(model.parameters()).device
    both = {name: value.to(device) for name, value in both.items()}

    def predict(x: Tensor, time: Tensor) -> Tensor:
        output = model(torch.cat([x, x]), time.repeat(2), both, int(frames == 1))
        plain, told = output[:, : x.shape[1]].chunk(2)
        return plain + task.guidance_scale * (told - plain)

    latents = sample_ddim(predict, x.to(device), task.objective, steps)
    return [decode_frames(task.vae, clip.transpose(0, 1)) for clip in latents]
