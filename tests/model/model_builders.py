"""Small models and inputs that the tests of the network share."""

import torch
from torch import Tensor

from latte_core.model import Latte, ModelConfig


def tiny(**fields: object) -> ModelConfig:
    """A configuration of 4 blocks and 4 frames that runs in milliseconds."""
    values = {"hidden_size": 48, "depth": 4, "num_heads": 4, "sample_size": 8, "num_frames": 4}
    return ModelConfig(**(values | fields))


def text(**fields: object) -> ModelConfig:
    """The same with text, in the T2V layout."""
    values = {"conditioning": "text", "injection": "adaln_single", "caption_channels": 20}
    return tiny(**(values | fields))


def random_model(config: ModelConfig, seed: int = 0) -> Latte:
    """A model in which every weight acts, gates and head included."""
    model = Latte(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        width = parameter.shape[-1] if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=generator) * width**-0.5
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the scale of b."""
    return float(((a - b).abs().max() / b.abs().max()).detach())
