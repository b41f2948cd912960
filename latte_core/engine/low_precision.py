"""What fp8 and sums in fp16 take beyond a dtype: hardware, torchao, a switch of torch's."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from latte_core.engine.plans import Plan
from latte_core.errors import ConfigError

if TYPE_CHECKING:
    from latte_core.model import Latte

# Compute capabilities. Source: NVIDIA's tables: tensor cores from Volta on, fp8 from Ada on.
NEEDED = {"fp16-accumulate": (7, 0), "fp8": (8, 9)}
OUTER_BLOCKS = 2  # at either end a pair of space and time block, which fp8 hurts most, stays as is
FP8_MULTIPLE = 16  # of the sides of a matrix; torch's fp8 product takes no others


def require(precision: str) -> None:
    """Raise ConfigError, naming the remedy, if this GPU or installation lacks what it takes."""
    if precision not in NEEDED:
        return
    have, need = torch.cuda.get_device_capability(), NEEDED[precision]
    if have < need:
        raise ConfigError(
            f"precision is {precision}, which needs a GPU of compute capability "
            f"{need[0]}.{need[1]}, but {torch.cuda.get_device_name()} has {have[0]}.{have[1]}: "
            "choose fp16 or bf16."
        )
    if precision == "fp8" and importlib.util.find_spec("torchao") is None:
        raise ConfigError(
            "precision is fp8, which needs torchao, but it is not installed: pip install torchao, "
            "or choose fp16 or bf16."
        )


def in_fp8(network: Latte) -> list[nn.Linear]:
    """The layers that fp8 is for: the large products of the inner blocks.

    Modulations, embeddings and the head stay, and so do sides that fp8 products cannot have.
    """
    return [
        layer
        for block in network.blocks[OUTER_BLOCKS:-OUTER_BLOCKS]
        for name, layer in block.named_modules()
        if isinstance(layer, nn.Linear)
        and not name.startswith("modulation")
        and all(side % FP8_MULTIPLE == 0 for side in layer.weight.shape)
    ]


def to_fp8(network: Latte | None, device: str) -> None:
    """Hold the inner layers' weights in fp8, scaled by row; inputs are scaled as they come.

    In place; on `device`, where torchao packs, and back. None is left alone.
    """
    if network is None:
        return
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        PerRow,
        quantize_,
    )

    wanted = {id(layer) for layer in in_fp8(network)}
    config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    network.to(device)
    quantize_(network, config, filter_fn=lambda module, name: id(module) in wanted)
    network.to("cpu")


@contextmanager
def accumulating(plan: Plan) -> Iterator[None]:
    """Inside, matrix products sum in fp16 if the plan says so; afterwards as before."""
    if plan.precision != "fp16-accumulate":
        yield
        return
    switches = torch.backends.cuda.matmul
    before = switches.allow_fp16_accumulation
    switches.allow_fp16_accumulation = True
    try:
        yield
    finally:
        switches.allow_fp16_accumulation = before
