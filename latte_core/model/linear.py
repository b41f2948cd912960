"""A linear layer that adds its bias, and a GELU behind it, while it multiplies, where torch can."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUSED = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # what torch's compiler calls too


class Linear(nn.Linear):
    """`nn.Linear`; for inference on the CPU by oneDNN's kernel, which adds the bias as it writes.

    `F.linear` there copies the bias into every row first (torch 2.13), which in bf16 takes two
    fifths of the time of a layer of 512 rows.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return fused(self, x, "none") if fuses(self, x) else super().forward(x)


def is_plain(layer: nn.Module) -> bool:
    """Say whether a layer is no adapter, and its weights are in no form of their own (fp8)."""
    return type(layer) is Linear and type(layer.weight) in (Tensor, nn.Parameter)


def fuses(layer: nn.Module, x: Tensor) -> bool:
    """Say whether `fused` can take the place of layer(x); a compiler fuses its own."""
    if torch.compiler.is_compiling() or x.device.type != "cpu" or torch.is_grad_enabled():
        return False
    return is_plain(layer) and layer.weight.dtype == x.dtype and _multiplies(x.dtype)


def fused(layer: Linear, x: Tensor, activation: str, form: str = "") -> Tensor:
    """layer(x) (..., out) and an activation in one: "none", or "gelu" in the form "tanh"."""
    return FUSED(x, layer.weight, layer.bias, activation, [], form)  # type: ignore[misc]


@cache  # asked by every layer of every step
def _multiplies(dtype: torch.dtype) -> bool:
    """Say whether oneDNN is here and has a kernel for such numbers on this CPU."""
    if FUSED is None or not torch.backends.mkldnn.is_available():
        return False
    bf16 = dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 or bool(bf16)


def gelu_behind(layer: nn.Module, x: Tensor) -> Tensor:
    """gelu(layer(x)), tanh-approximated; (..., in) -> (..., out).

    On the CPU torch's tanh kernel is gone round, which takes three to five times as long there as
    the product's own (torch 2.13, AVX-512): in fp32, for inference, the product's kernel applies
    it. In bf16 the exact GELU stands for it, for training too: they are 5e-4 apart at most, and a
    bf16 number above 0.25 is rounded by as much.
    """
    if x.dtype == torch.float32 and isinstance(layer, Linear) and fuses(layer, x):
        return fused(layer, x, "gelu", "tanh")
    h = layer(x)
    exact = h.device.type == "cpu" and h.dtype == torch.bfloat16
    if exact and not torch.compiler.is_compiling():
        return F.gelu(h)
    return F.gelu(h, approximate="tanh")
