"""Small networks of Latte-1's kind that many tests share."""

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
