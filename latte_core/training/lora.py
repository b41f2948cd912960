"""LoRA with peft: give a frozen network additions that learn, and take them out again."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from latte_core.checkpoints.lora import LoraWeights
from latte_core.errors import ConfigError
from latte_core.training.config import LoraConfig

ADAPTER = "default"
# Layers by what they do, as the ends of our names.
LAYERS = {
    "space": r"attn\.space\.(qkv|proj)",
    "time": r"attn\.time\.(qkv|proj)",
    "prompt": r"cross\.(q|kv|proj)",
    "mlp": r"mlp\.(fc1|fc2)",
}


def add_lora(model: nn.Module, settings: LoraConfig) -> None:
    """Freeze a Latte and add low-rank layers to it, in place; at first they change nothing.

    Raises ConfigError if the model has no layer of the kinds that are asked for.
    """
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    pattern = rf"blocks\.\d+\.({'|'.join(LAYERS[target] for target in settings.targets)})"
    if not any(re.fullmatch(pattern, name) for name, _ in model.named_modules()):
        raise ConfigError(f"lora.targets is {settings.targets}, but the model has none of them.")
    model.requires_grad_(False)
    make_config: Any = PeftConfig  # typed for whole alphas, scales by any
    config = make_config(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=pattern,
        lora_dropout=settings.dropout,
        bias="none",
    )
    inject_adapter_in_model(config, model, ADAPTER)


def lora_of(model: nn.Module, alpha: float) -> LoraWeights:
    """The additions of a model that `add_lora` changed."""
    down: dict[str, Tensor] = {}
    up: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            layer: Any = module
            down[name] = layer.lora_A[ADAPTER].weight
            up[name] = layer.lora_B[ADAPTER].weight
    return LoraWeights(down, up, alpha)
