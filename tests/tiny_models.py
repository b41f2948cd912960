"""Small networks of Latte-1's kind that many tests share."""

import torch
from torch import nn

from latte_core.model import ModelConfig

T2V = ModelConfig(
    hidden_size=48,
    depth=4,
    num_heads=4,
    sample_size=8,
    num_frames=4,
    conditioning="text",
    injection="adaln_single",
    caption_channels=20,
)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same tensors, to the bit."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)
