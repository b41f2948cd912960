"""Task 4: a student that goes in one unguided step where its teacher goes in several guided ones.

The student's few timesteps are those on which the engine runs it. From where it stands at one of
them the teacher walks by DDIM, guided, in `substeps` to the next; the student learns the picture
from which one step of its own lands at the same place. That picture has a closed form, as in
progressive distillation (arXiv 2202.00512), and guidance becomes part of the student (arXiv
2210.03142). Only the transformer learns; the text encoder is the teacher's.

Where it stands: on a noised clip at a random one of its timesteps, or on its own path from pure
noise, at every one of them. On that path it meets its own mistakes, and the teacher shows the way
back from them, as in imitation learning (DAgger, arXiv 1011.0686); noised clips have none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from latte_core.components.text_encoder import TextEncoder
from latte_core.components.vae import decode_frames
from latte_core.diffusion.loss import TRAIN_STEPS, DiffusionLoss
from latte_core.errors import ConfigError
from latte_core.training.loop import Losses
from latte_core.training.sampling import attention_kernels, lay_out
from latte_core.training.text_to_video import Batch, ClipBatches

States = Literal["noised", "own"]
CLEAN = -1  # in the place of a timestep: no noise is left
Predict = Callable[[Tensor, Tensor], Tensor]


def trailing_steps(steps: int) -> list[int]:
    """Timesteps of `steps` DDIM steps as diffusers' "trailing" spacing has them, then CLEAN.

    Raises ConfigError where the distances would be uneven, which its DDIM does not follow.
    """
    if steps < 1 or TRAIN_STEPS % steps:
        raise ConfigError(
            f"turbo.steps is {steps}; it has to divide {TRAIN_STEPS}: take 4, 5, 8 or 10."
        )
    stride = TRAIN_STEPS // steps
    return [*range(TRAIN_STEPS - 1, -1, -stride), CLEAN]


def between(start: int, end: int, count: int) -> list[int]:
    """`count` even steps from one timestep to another, both included."""
    return np.linspace(start, end, count + 1).round().astype(int).tolist()


class Chain:
    """Signal and noise of the training chain at timesteps (B,) of which some may be CLEAN."""

    def __init__(self, objective: DiffusionLoss) -> None:
        self.objective = objective

    def levels(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of picture and noise (B, 1, 1, 1, 1): 1 and 0 where it is clean."""
        clean = (timesteps == CLEAN)[:, None, None, None, None]
        at = timesteps.clamp(min=0)
        one = torch.ones_like(like[:, :1, :1, :1, :1])
        zero = torch.zeros_like(one)
        signal = self.objective.add_noise(one, zero, at)
        noise = self.objective.add_noise(zero, one, at)
        return torch.where(clean, one, signal), torch.where(clean, zero, noise)

    def step(self, x: Tensor, picture: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """One DDIM step of latents (B, C, F, h, w) towards a picture of the same shape."""
        signal, noise = self.levels(now, x)
        signal_then, noise_then = self.levels(then, x)
        return signal_then * picture + noise_then * (x - signal * picture) / noise

    def picture_that_leads(self, x: Tensor, goal: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """The picture with which `step` goes from x at `now` to the goal at `then`."""
        signal, noise = self.levels(now, x)
        signal_then, noise_then = self.levels(then, x)
        ratio = noise_then / noise
        return (goal - ratio * x) / (signal_then - ratio * signal)


@dataclass
class TurboTask:
    """Distil `teacher` into `model`, which starts as its copy. `model.text_encoder` is frozen.

    `steps` are the student's, each worth `substeps` of the teacher's under `guidance_scale`.
    `states` is where it is taught: at one timestep of a noised clip, or all along its own path.
    """

    model: nn.Module
    teacher: nn.Module
    batches: ClipBatches
    text_encoder: TextEncoder
    vae: Any
    steps: int
    substeps: int
    guidance_scale: float
    objective: DiffusionLoss = field(default_factory=DiffusionLoss)
    attention: Literal["auto", "math"] = "auto"
    prompts: tuple[str, ...] = ()
    states: States = "noised"

    def __post_init__(self) -> None:
        """Check the steps, and keep the teacher as it is."""
        self.grid = trailing_steps(self.steps)
        if self.substeps < 1:
            raise ConfigError(f"turbo.substeps is {self.substeps}; it must be 1 or more.")
        self.chain = Chain(self.objective)
        self.teacher.requires_grad_(False).eval()

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Losses:
        """Squared error against the picture that leads where the teacher walks."""
        x0 = batch["latents"]
        self.teacher.to(x0.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        if self.states == "noised":
            place = torch.randint(self.steps, (len(x0),), generator=generator).to(x0.device)
            now = torch.tensor(self.grid, device=x0.device)[place]
            loss, _ = self._compare(model, batch, self.objective.add_noise(x0, noise, now), place)
        else:
            loss, x = torch.zeros((), device=x0.device), noise
            for step in range(self.steps):
                place = torch.full((len(x),), step, device=x.device)
                error, x = self._compare(model, batch, x, place)
                loss = loss + error / self.steps
        return loss, {"mse": float(loss.detach())}

    def _compare(
        self, model: nn.Module, batch: Batch, x: Tensor, place: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The student's error at x, which stands at grid points (B,), and where its step leads."""
        grid = torch.tensor(self.grid, device=x.device)
        now, then = grid[place], grid[place + 1]
        wanted = self.chain.picture_that_leads(x, self._walk(x, place, batch), now, then)
        prediction = self._predict(model, batch, rows=1)(x, now).float()
        picture = self.objective.predict_x0(prediction, x, now)
        _, spread = self.chain.levels(now, x)
        # Divided by the noise it is the error of v, in which no timestep outweighs the others.
        loss = ((picture - wanted) / spread).square().mean()
        return loss, self.chain.step(x, picture.detach(), now, then)

    @torch.no_grad()
    def _walk(self, x: Tensor, place: Tensor, batch: Batch) -> Tensor:
        """Where the teacher arrives from x (B, C, F, h, w), which stands at grid points (B,)."""
        paths = [between(a, b, self.substeps) for a, b in pairwise(self.grid)]
        stops = torch.tensor(paths, device=x.device)[place]  # (B, substeps + 1)
        guided = self._predict(self.teacher, batch, rows=2)
        for now, then in pairwise(stops.unbind(1)):
            picture = self.objective.predict_x0(guided(x, now), x, now)
            x = self.chain.step(x, picture, now, then)
        return x

    def _predict(self, model: nn.Module, batch: Batch, rows: int) -> Predict:
        """The model's prediction under the batch's prompts: told alone, or guided (2 rows)."""
        images = self.batches.images if self.batches.clips else 1
        read = with_empty(self.text_encoder, batch) if rows == 2 else batch

        def predict(x: Tensor, timesteps: Tensor) -> Tensor:
            with attention_kernels(self.attention):
                output = model(torch.cat([x] * rows), timesteps.repeat(rows), read, images)
            output = output[:, : x.shape[1]]
            if rows == 1:
                return output
            empty, told = output.float().chunk(2)
            return empty + self.guidance_scale * (told - empty)

        return predict

    @torch.no_grad()
    def picture(self, model: nn.Module) -> Image.Image:
        """Six frames of each fixed prompt's clip in the student's own steps, two columns."""
        frames, count = 16 if self.batches.clips else 1, len(self.prompts)
        device = next(model.parameters()).device
        x = self.batches.noise(count, frames).to(device)
        ids, mask = self.text_encoder.tokenize(list(self.prompts), self.batches.length)
        told = {"ids": ids[:, None], "mask": mask[:, None], "reads": mask[:, None]}
        told = {name: value.to(device) for name, value in told.items()}
        for now, then in pairwise(torch.tensor(self.grid, device=device)):
            here, there = now.expand(count), then.expand(count)
            prediction = model(x, here, told, int(frames == 1))[:, : x.shape[1]]
            x = self.chain.step(x, self.objective.predict_x0(prediction, x, here), here, there)
        clips = [decode_frames(self.vae, clip.transpose(0, 1)) for clip in x]
        rows = [np.concatenate(list(clip[:: 3 if frames > 1 else 1]), axis=1) for clip in clips]
        return lay_out(rows, 2 if frames > 1 else 8, scale=2)


def with_empty(text_encoder: TextEncoder, batch: Batch) -> Batch:
    """A batch's tokens twice over: first the empty prompt in their place, then themselves."""
    ids, mask = text_encoder.tokenize([""], batch["ids"].shape[-1])
    empty = {"ids": ids.to(batch["ids"]), "mask": mask.to(batch["mask"]), "reads": batch["reads"]}
    return {
        name: torch.cat([value.expand_as(batch[name]), batch[name]])
        for name, value in empty.items()
    }
