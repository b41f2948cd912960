"""Latte, the latent diffusion transformer for video (arXiv 2401.03048), read top to bottom."""

from __future__ import annotations

import torch
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
    remove_tokens,
)
from latte_core.model.config import ModelConfig
from latte_core.model.inputs import check_labels, check_latents, check_mask, check_prompt
from latte_core.model.layouts import layout
from latte_core.model.patches import FrameUpsample, PatchEmbed, Split, unpatch
from latte_core.model.positions import Positions, rope_table


class Head(nn.Module):
    """Final norm and linear layer: tokens (B, F, N, D) -> patches (B, F, N, p*p*C_out)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.modulation = INJECTIONS[config.injection].own(config.hidden_size, 2)
        self.linear = nn.Linear(config.hidden_size, config.patch_size**2 * config.out_channels)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Normalise, modulate, project."""
        shift, scale = self.modulation(cond)
        return self.linear(modulate(x, shift, scale))


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
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        class_labels: Tensor | None = None,
        num_images: int = 0,
    ) -> Tensor:
        """Denoise one step.

        latents (B, C, F+I, h, w): a video of F frames, then I = num_images still images; F may be
        0, and a video of one frame is an image. timesteps (B,), of the 1000-step training grid.
        prompt_embeds (B, L, C_text), or (B, 1+I, L, C_text) with each image's own prompt behind the
        video's; prompt_attention_mask (B, L) or (B, 1+I, L), 1 where a token counts. class_labels
        (B,) or (B, 1+I); `num_classes` itself stands for "no class".
        Returns (B, C_out, F+I, h, w). Raises ShapeError for inputs that do not fit the config.
        """
        config, batch = self.config, len(latents)
        split = check_latents(config, latents, timesteps, num_images)
        labels = check_labels(config, class_labels, batch, num_images)
        embeds = check_prompt(config, prompt_embeds, batch, num_images)

        grid = self.patch.grid(latents)
        x = self.patch(latents.to(self.patch.proj.weight.dtype))  # (B, F+I, N, D)
        x = self.positions.add_space(x, grid)
        conditions = self._conditions(timesteps, labels, split)
        cond = sum(conditions[1:], conditions[0])  # (B, 1 or F+I, 1, D)
        prompt = self._prompt(embeds, prompt_attention_mask)

        if config.injection == "all_tokens":
            x, extended = append_tokens(x, conditions, split)
            x = self._run_blocks(x, split, self._context(cond, prompt, extended))
            x = remove_tokens(x, conditions, split)
        else:
            x = self._run_blocks(x, split, self._context(cond, prompt, split))

        x = unpatch(self.head(x, cond), grid, config.patch_size)
        return x if self.upsample is None else self.upsample(x)

    def _run_blocks(self, x: Tensor, split: Split, context: Context) -> Tensor:
        """All blocks in turn. The video gets time positions before the first that needs them."""
        for index, block in enumerate(self.blocks):
            if index == self.first_time_block and split.video and context.rope is None:
                x = self.positions.add_time(x, split.video)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context)
        return x

    def _conditions(self, timesteps: Tensor, labels: Tensor | None, split: Split) -> list[Tensor]:
        """Embed timesteps, and classes if there are any: each (B, 1 or F+I, 1, D)."""
        conditions = [self.timestep(timesteps)[:, None, None]]
        if self.label is None or labels is None:
            return conditions
        y = self.label(labels)[:, :, None]  # (B, 1 or 1+I, 1, D)
        if y.shape[1] > 1:  # the first is the video's, for each of its frames
            frames = split.video + split.images - (y.shape[1] - 1)
            y = torch.cat([y[:, :1].expand(-1, frames, -1, -1), y[:, 1:]], dim=1)
        return [*conditions, y]

    def _prompt(self, embeds: Tensor | None, mask: Tensor | None) -> Prompt | None:
        """Project the prompts (B, P, L, C_text), once each."""
        if self.prompt is None or embeds is None:
            return None
        return Prompt(self.prompt(embeds), check_mask(mask, embeds))

    def _context(self, cond: Tensor, prompt: Prompt | None, split: Split) -> Context:
        """What every block reads."""
        rope = None
        if self.config.temporal_positions == "rope":
            rope = rope_table(self.config.head_dim, split.video, cond.device)
        return Context(self.shared(cond), split, prompt, rope)

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
    Zeroed are the output layers of time attention, and of the MLP in blocks that attend time alone.
    """
    for block in model.blocks:
        assert isinstance(block, Block)
        if "time" not in block.spec.axes:
            continue
        time = block.attn["time"]
        assert isinstance(time, SelfAttention)
        layers = [time.proj, block.mlp.fc2] if block.spec.axes == ("time",) else [time.proj]
        for layer in layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
