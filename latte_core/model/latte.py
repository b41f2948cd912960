"""Latte, the latent diffusion transformer for video (arXiv 2401.03048), read top to bottom."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latte_core.model.attention import CrossAttention, Prompt, SelfAttention
from latte_core.model.block import Block, Context, modulation_vectors
from latte_core.model.conditioning import (
    INJECTIONS,
    AdaLNSingle,
    AdaLNZero,
    PromptProjection,
    TimestepEmbedding,
    append_tokens,
    modulate,
)
from latte_core.model.config import ModelConfig
from latte_core.model.inputs import (
    Inputs,
    check_labels,
    check_latents,
    check_mask,
    check_positions,
    check_prompt,
)
from latte_core.model.layouts import layout
from latte_core.model.patches import FrameUpsample, PatchEmbed, unpatch
from latte_core.model.positions import Positions, rope_table


class Head(nn.Module):
    """Final norm and linear layer: tokens (B, F, N, D) -> patches (B, F, N, p*p*C_out)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.modulation = INJECTIONS[config.injection].own(config.hidden_size, 2)
        self.places = config.patch_size**2
        self.linear = nn.Linear(config.hidden_size, self.places * config.out_channels)

    def forward(self, x: Tensor, cond: Tensor, channels: int | None = None) -> Tensor:
        """Normalise, modulate, project; to the first `channels` of each place, if not to all."""
        x = modulate(x, *self.modulation(cond))
        if channels is None:
            return self.linear(x)
        weight, bias = (
            part.unflatten(0, (self.places, -1))[:, :channels].flatten(0, 1)
            for part in (self.linear.weight, self.linear.bias)
        )
        return F.linear(x, weight, bias)


class Reading(NamedTuple):
    """What all steps of a run share; made by `Latte.read`.

    Prompts as every block reads them, one value per block, for the video and for still images;
    and whether a learned variance is wanted.
    """

    video: tuple[Prompt | None, ...]
    stills: tuple[Prompt | None, ...]
    variance: bool


class Latte(nn.Module):
    """The denoiser: noisy latents, timesteps and conditions to noise (or v) and variance.

    Untrained, it returns exactly 0. Set `gradient_checkpointing` to trade time for memory while
    training. Inputs are cast to the weights' dtype; the model has no device or dtype of its own.
    Dropping labels or prompts for guidance is the trainer's part: forward is a plain function.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        width, specs = config.hidden_size, layout(config)
        labels, captions = config.num_classes, config.caption_channels
        self.patch = PatchEmbed(config)
        self.positions = Positions(config)
        self.timestep = TimestepEmbedding(width)
        # One row more than classes: the last is "no class", for guidance.
        self.label = nn.Embedding(labels + 1, width) if labels else None
        self.prompt = PromptProjection(captions, width) if captions else None
        self.shared = INJECTIONS[config.injection].shared(width, modulation_vectors(config))
        self.blocks = nn.ModuleList(Block(config, spec) for spec in specs)
        self.first_time_block = next(i for i, spec in enumerate(specs) if "time" in spec.axes)
        self.head = Head(config)
        self.upsample = FrameUpsample(config) if config.patch_frames > 1 else None
        self.reset_parameters()

    @property
    def num_parameters(self) -> int:
        """Trainable weights."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        prompt_embeds: Tensor | Reading | None = None,
        prompt_attention_mask: Tensor | None = None,
        class_labels: Tensor | None = None,
        num_images: int = 0,
        frame_positions: Tensor | None = None,
    ) -> Tensor:
        """Denoise one step.

        latents (B, C, F+I, h, w): a video of F frames, then I = num_images still images; F may be
        0, and a video of one frame is an image. timesteps (B,), of the 1000-step training grid, or
        (B, 1+I) with each image's own behind the video's.
        prompt_embeds (B, L, C_text), or (B, 1+I, L, C_text) with each image's own prompt behind the
        video's; prompt_attention_mask (B, L) or (B, 1+I, L), 1 where a token counts. class_labels
        (B,) or (B, 1+I); `num_classes` itself stands for "no class".
        frame_positions (F/pt,) place the video's token frames in time, at 0, 1, 2 ... if not given.
        A `Reading` may be given in place of embeds and mask.
        Returns (B, C_out, F+I, h, w). Raises ShapeError for inputs that do not fit the config.
        """
        config, batch = self.config, len(latents)
        frames = check_latents(config, latents, timesteps, num_images)
        labels = check_labels(config, class_labels, batch, num_images)
        places = check_positions(config, frame_positions, frames)
        reading = prompt_embeds if isinstance(prompt_embeds, Reading) else None
        inputs = Inputs(timesteps.reshape(batch, -1), labels, None, None)
        if not isinstance(prompt_embeds, Reading):
            embeds = check_prompt(config, prompt_embeds, batch, num_images)
            mask = check_mask(prompt_attention_mask, embeds)
            inputs = inputs._replace(embeds=embeds, mask=mask)

        # A video and its stills never meet in the network, so each is a pass of its own: the video
        # is the same to the bit whether stills come with it or not.
        parts = []
        if frames:
            told = inputs.rows(slice(0, 1))._replace(frame_positions=places)
            own = reading or self._reading(told)
            parts.append(self._denoise(latents[:, :, :frames], told, own, stills=False))
        if images := latents.shape[2] - frames:
            told = inputs.rows(slice(-images, None))
            own = reading or self._reading(told)
            parts.append(self._denoise(latents[:, :, frames:], told, own, stills=True))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def read(
        self,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        images: int = 0,
        variance: bool = True,
        absorb: bool = False,
    ) -> Reading:
        """Compute what all steps of a run share: prompts, their keys and values in every block.

        Embeds and mask as in `forward`, which takes the result in place of both; `images` counts
        the frames that are still images, a video of one frame among them. Without `variance`,
        forward leaves a learned one out and returns C channels. `absorb` multiplies weights into
        the keys and values of short prompts, which is less work for the same numbers.
        """
        variance = variance or self.upsample is not None  # that layer mixes all channels
        if prompt_embeds is None:
            return Reading((None,) * len(self.blocks), (None,) * len(self.blocks), variance)
        own = len(prompt_embeds[0]) - 1 if prompt_embeds.ndim == 4 else 0
        embeds = check_prompt(self.config, prompt_embeds, len(prompt_embeds), own)
        mask = check_mask(prompt_attention_mask, embeds)
        inputs = Inputs(prompt_embeds.new_zeros(len(prompt_embeds), 1), None, embeds, mask)
        video = stills = self._keys_and_values(inputs.rows(slice(0, 1)), absorb)
        if own and images:
            stills = self._keys_and_values(inputs.rows(slice(-images, None)), absorb)
        return Reading(video, stills, variance)

    def _denoise(self, latents: Tensor, inputs: Inputs, reading: Reading, stills: bool) -> Tensor:
        """Denoise a video, or still images, (B, C, F, h, w) -> (B, C_out, F, h, w)."""
        conditions = self._conditions(inputs)
        cond = sum(conditions[1:], conditions[0])  # (B, 1 or F, 1, D)
        grid = self.patch.grid(latents)
        x = self.patch(latents.to(self.patch.proj.weight.dtype))  # (B, F, N, D)
        x = self.positions.add_space(x, grid)
        frames, places = x.shape[1:3]
        if self.config.injection == "all_tokens":
            x = append_tokens(x, conditions, stills)

        rope = self._rope(x)
        context = Context(self.shared(cond), None, rope, stills)
        prompts = reading.stills if stills else reading.video
        for index, (block, prompt) in enumerate(zip(self.blocks, prompts, strict=True)):
            context = context._replace(prompt=prompt)
            if index == self.first_time_block and rope is None and not stills:
                x = self.positions.add_time(x, inputs.frame_positions)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context)

        channels = None if reading.variance else self.config.in_channels
        x = self.head(x[:, :frames, :places], cond, channels)
        x = unpatch(x, grid, self.config.patch_size)
        return x if self.upsample is None else self.upsample(x)

    def _conditions(self, inputs: Inputs) -> list[Tensor]:
        """Embed timesteps, and classes if there are any: each (B, 1 or F, 1, D)."""
        conditions = [self.timestep(inputs.timesteps)[:, :, None]]
        if self.label is not None and inputs.labels is not None:
            conditions.append(self.label(inputs.labels)[:, :, None])
        return conditions

    def _reading(self, inputs: Inputs) -> Reading:
        """Project the prompts, once each, and leave keys and values to the blocks."""
        prompts = (self._prompt(inputs),) * len(self.blocks)
        return Reading(prompts, prompts, True)

    def _keys_and_values(self, inputs: Inputs, absorb: bool) -> tuple[Prompt | None, ...]:
        """What every block makes of the prompts, None where it reads none."""
        prompt = self._prompt(inputs)
        layers = [block.cross for block in self.blocks if isinstance(block, Block)]
        return tuple(
            None if layer is None or prompt is None else layer.read(prompt, absorb)
            for layer in layers
        )

    def _prompt(self, inputs: Inputs) -> Prompt | None:
        """Project the prompts, once each."""
        if self.prompt is None or inputs.embeds is None:
            return None
        return Prompt(self.prompt(inputs.embeds), inputs.mask)

    def _rope(self, x: Tensor) -> Tensor | None:
        """Rotations for as many frames as x (B, F, N, D) has; None with absolute positions."""
        if self.config.temporal_positions == "absolute":
            return None
        return rope_table(self.config.head_dim, x.shape[1], x.device)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new weights as DiT and Latte do; the T2V parts follow PixArt-alpha.

        Linear layers are Xavier-uniform, a query-key-value layer being one matrix; embeddings are
        N(0, 0.02^2). Gates (adaln_zero), the reading of the prompt and the head start at zero.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | FrameUpsample):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for part in (self.timestep, self.prompt, self.label, self.shared):
            for name, parameter in part.named_parameters() if part is not None else ():
                if name.endswith("weight"):
                    nn.init.normal_(parameter, std=0.02)
        self._zero_outputs()

    def _zero_outputs(self) -> None:
        """Zero what would disturb an untrained model; draw the tables of adaln_single."""
        for module in self.modules():
            if isinstance(module, AdaLNSingle):
                nn.init.normal_(module.table, std=self.config.hidden_size**-0.5)
            elif isinstance(module, AdaLNZero):
                nn.init.zeros_(module.linear.weight)
            elif isinstance(module, CrossAttention):
                nn.init.zeros_(module.proj.weight)
        nn.init.zeros_(self.head.linear.weight)


@torch.no_grad()
def zero_init_temporal(model: Latte) -> None:
    """Make time attention and purely temporal blocks the identity, in place.

    An image model then carries over: at first each frame is what the space blocks make of it.
    Zeroed are the output layers of time attention, and of the MLP in blocks that attend time alone;
    where such a block makes its own gates (adaln_zero), the gates alone, because zero gates before
    zero layers would let no gradient through.
    """
    for block in model.blocks:
        assert isinstance(block, Block)
        if "time" not in block.spec.axes:
            continue
        time = block.attn["time"]
        assert isinstance(time, SelfAttention)
        layers: list[nn.Linear] = [time.proj]
        if block.spec.axes == ("time",):
            layers.append(block.mlp.fc2)
        if block.spec.axes == ("time",) and isinstance(block.modulation, AdaLNZero):
            layers = [block.modulation.linear]
        for layer in layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
