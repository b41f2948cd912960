"""One transformer block, built from a `BlockSpec`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from latte_core.model.attention import CrossAttention, Prompt, SelfAttention, fold, unfold
from latte_core.model.conditioning import INJECTIONS, modulations
from latte_core.model.config import ModelConfig
from latte_core.model.layouts import Axis, BlockSpec
from latte_core.model.linear import Linear, gelu_behind


class Context(NamedTuple):
    """What a block reads beside its tokens.

    `cond` (B, 1 or F, 1, ...) broadcasts over the tokens; `rope` is None with absolute positions;
    `stills` says that the frames are images of their own and no video.
    """

    cond: Tensor
    prompt: Prompt | None
    rope: Tensor | None
    stills: bool


def modulation_vectors(config: ModelConfig) -> int:
    """Vectors that a block's modulation yields: three each for attention and MLP.

    Variant 3 has three more if its two attentions are modulated apart.
    """
    return 9 if config.variant == 3 and config.chain_modulation == "own" else 6


class Mlp(nn.Module):
    """Two linear layers with a tanh-approximated GELU between them."""

    def __init__(self, hidden_size: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = Linear(hidden_size, ratio * hidden_size)
        self.fc2 = Linear(ratio * hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(gelu_behind(self.fc1, x))


class Block(nn.Module):
    """Attend the spec's axes, read the prompt if the spec says so, then the MLP."""

    def __init__(self, config: ModelConfig, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.images = config.images
        heads = config.num_heads
        if spec.join == "sum" and config.sum_heads == "half":
            heads //= 2
        width = config.hidden_size
        self.attn = nn.ModuleDict(
            {axis: SelfAttention(width, heads, config.head_dim) for axis in spec.axes}
        )
        self.cross = CrossAttention(width, config.num_heads) if spec.text else None
        self.mlp = Mlp(width, config.mlp_ratio)
        self.modulation = INJECTIONS[config.injection].own(width, modulation_vectors(config))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Tokens (B, F, N, D) -> (B, F, N, D)."""
        skipped = "time" if context.stills and self.images == "bypass" else None
        axes = [axis for axis in self.spec.axes if axis != skipped]
        if not axes:
            return x  # images go round a purely temporal block, its MLP included
        *attn, mlp = modulations(self.modulation(context.cond))
        if self.spec.join == "sum":
            h = attn[0].pre(x)
            made = [self._attend(axis, h, context) for axis in axes]
            x = attn[0].add(x, made[0] if len(made) == 1 else made[0] + made[1])
        else:
            for axis in axes:
                # One set for both axes, or one each.
                own = attn[self.spec.axes.index(axis) % len(attn)]
                x = own.add(x, self._attend(axis, own.pre(x), context))
        if self.cross is not None and context.prompt is not None:
            x = x + self.cross(x, context.prompt)  # neither normed nor gated
        return mlp.add(x, self.mlp(mlp.pre(x)))

    def _attend(self, axis: Axis, h: Tensor, context: Context) -> Tensor:
        """Attend one axis of (B, F, N, D); along time, a still is a sequence of length 1."""
        layer = self.attn[axis]
        if axis == "space":
            return unfold(layer(fold(h, axis)), axis, h.shape[0])
        if context.stills:
            return layer(h.reshape(-1, 1, h.shape[-1])).reshape(h.shape)
        return unfold(layer(fold(h, axis), context.rope), axis, h.shape[0])
