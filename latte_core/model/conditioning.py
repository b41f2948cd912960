"""What a model is told, timestep, class and prompt, and the three ways that blocks take it in."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latte_core.model.positions import BASE

TIMESTEP_FEATURES = 256  # width of the sinusoid before its MLP; source: DiT, kept by Latte
NORM_EPS = 1e-6  # of every layer norm; source: DiT, kept by Latte


def timestep_features(timesteps: Tensor) -> Tensor:
    """Cosines then sines of timesteps (...) -> (..., 256), float32."""
    half = TIMESTEP_FEATURES // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps[..., None].float() * torch.exp(-math.log(BASE) * steps / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Timesteps (...) on the 1000-step training grid -> (..., D)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(TIMESTEP_FEATURES, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, timesteps: Tensor) -> Tensor:
        """Timesteps (...) -> (..., D)."""
        features = timestep_features(timesteps).to(self.fc1.weight.dtype)
        return self.fc2(F.silu(self.fc1(features)))


class PromptProjection(nn.Module):
    """Text encoder states (..., L, caption_channels) -> (..., L, D)."""

    def __init__(self, caption_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(caption_channels, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, prompt_embeds: Tensor) -> Tensor:
        """Project, in the weights' dtype: a text encoder may run in another."""
        x = self.fc1(prompt_embeds.to(self.fc1.weight.dtype))
        return self.fc2(F.gelu(x, approximate="tanh"))


class Modulation(NamedTuple):
    """One sub-layer's share of the conditioning; each part broadcasts over (B, F, N, D)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def pre(self, x: Tensor) -> Tensor:
        """Normalise x over its width, scale and shift."""
        return modulate(x, self.shift, self.scale)

    def add(self, x: Tensor, h: Tensor) -> Tensor:
        """Add what the sub-layer made, through the gate."""
        return torch.addcmul(x, self.gate, h)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without weights of its own, then (1 + scale) and shift."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale)


class AdaLNZero(nn.Module):
    """Each block has its own linear layer on SiLU(cond). The class models' S-AdaLN."""

    def __init__(self, hidden_size: int, vectors: int) -> None:
        super().__init__()
        self.vectors = vectors
        self.linear = nn.Linear(hidden_size, vectors * hidden_size)

    def forward(self, cond: Tensor) -> tuple[Tensor, ...]:
        """Cond (B, 1 or F, 1, D) -> `vectors` tensors (B, 1 or F, 1, D)."""
        return self.linear(F.silu(cond)).chunk(self.vectors, dim=-1)


class AdaLNSingle(nn.Module):
    """All blocks share one linear layer; each adds a table of its own. The T2V model's way.

    Source: PixArt-alpha, arXiv 2310.00426, section 2.3.
    """

    def __init__(self, hidden_size: int, vectors: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(vectors, hidden_size))

    def forward(self, cond: Tensor) -> tuple[Tensor, ...]:
        """The shared cond (B, 1 or F, 1, vectors*D or D) -> `vectors` tensors (B, 1 or F, 1, D)."""
        shared = cond.unflatten(-1, (-1, self.table.shape[1]))
        return (self.table + shared).unbind(-2)


class AllTokens(nn.Module):
    """Conditions are tokens among the others, so a block only has an ordinary layer norm's weights.

    A norm's weights are a modulation that is the same for every input, with a gate of 1.
    """

    def __init__(self, hidden_size: int, vectors: int) -> None:
        super().__init__()
        self.vectors = vectors
        self.table = nn.Parameter(torch.zeros(vectors - vectors // 3, hidden_size))

    def forward(self, cond: Tensor) -> tuple[Tensor, ...]:
        """`vectors` tensors (D,); every third is the gate, a 1."""
        rows, one = iter(self.table.unbind(0)), torch.ones_like(self.table[0])
        return tuple(one if index % 3 == 2 else next(rows) for index in range(self.vectors))


class SharedLinear(nn.Module):
    """The one linear layer of adaln_single: cond (..., D) -> (..., vectors * D)."""

    def __init__(self, hidden_size: int, vectors: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, vectors * hidden_size)

    def forward(self, cond: Tensor) -> Tensor:
        """Activate and project."""
        return self.linear(F.silu(cond))


class Untouched(nn.Identity):
    """Nothing is shared."""

    def __init__(self, hidden_size: int, vectors: int) -> None:
        super().__init__()


class InjectionParts(NamedTuple):
    """The two halves of an injection: what is computed once for all blocks, and in each block."""

    shared: type[nn.Module]
    own: type[nn.Module]


INJECTIONS = {
    "adaln_zero": InjectionParts(Untouched, AdaLNZero),
    "adaln_single": InjectionParts(SharedLinear, AdaLNSingle),
    "all_tokens": InjectionParts(Untouched, AllTokens),
}


def modulations(vectors: tuple[Tensor, ...]) -> list[Modulation]:
    """Group vectors, ordered shift, scale, gate, into one Modulation per sub-layer."""
    return [Modulation(*vectors[start : start + 3]) for start in range(0, len(vectors), 3)]


def append_tokens(x: Tensor, conditions: list[Tensor], stills: bool) -> Tensor:
    """Append E condition tokens for both axes: (B, F, N, D) -> (B, F + E, N + E, D).

    Every frame gets them as E further places, and every place of a video as E further frames, so
    that space and time attention both meet them. Stills, which do not meet in time, keep F frames.
    Source: arXiv 2401.03048, section 3.3 ("all tokens"); the shape is our reading.
    """
    columns = [c.expand(-1, x.shape[1], -1, -1) for c in conditions]
    x = torch.cat([x, *columns], dim=2)
    if stills:
        return x
    return torch.cat([x, *(c.expand(-1, -1, x.shape[2], -1) for c in conditions)], dim=1)
