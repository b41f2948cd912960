"""Attention: one function, over one axis of the tokens at a time or from tokens to the prompt."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latte_core.model.layouts import Axis
from latte_core.model.linear import Linear, is_plain
from latte_core.model.positions import rotate

LONGEST_BY_PRODUCTS = 256  # tokens; see `wants_products`


class Absorbed(NamedTuple):
    """Keys and values of a prompt with the projections before and after them multiplied in.

    keys (B, H*L, D), bias (B, 1, H*L) and values (B, H*L, D): tokens x (B, S, D) read the prompt as
    softmax(x keys^T + bias, each head for itself) values, which is two products with H*L columns in
    place of two with D and the attention between them.
    """

    keys: Tensor
    bias: Tensor
    values: Tensor


class Prompt(NamedTuple):
    """Projected prompt tokens (B, P, L, D) and a mask (B, P, L), True where a token counts.

    P is 1 if one prompt serves all frames, else there is one for each frame. `kv` are the keys and
    values (B*P, L, D) that one layer makes of the tokens, if it was asked before; `absorbed` stands
    in their place where that is less work.
    """

    tokens: Tensor
    mask: Tensor | None
    kv: tuple[Tensor, Tensor] | None = None
    absorbed: Absorbed | None = None


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_heads: int,
    mask: Tensor | None = None,
    rope: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention; torch picks the back end, but for `wants_products`.

    q (B, S, H*d), k and v (B, L, H*d), mask (B, L) or None -> (B, S, H*d).
    """
    q, k, v = (x.unflatten(2, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    if rope is not None:
        q, k = rotate(q, rope), rotate(k, rope)
    if mask is not None:
        mask = mask[:, None, None, :]
    if wants_products(q, k):
        out = attend_by_products(q, k, v, mask)
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


def wants_products(q: Tensor, k: Tensor) -> bool:
    """Say whether heads (B, H, S, d) and (B, H, L, d) are better attended by plain products.

    So it is for training in bf16 on the CPU with short sequences: of torch's back ends (2.13) the
    fused one takes two to seven times as long there, and the other computes in fp32 and takes two
    to four times as long. Measured with 16 to 256 tokens; what is kept grows with their square.
    """
    trains = q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled()
    return trains and max(q.shape[2], k.shape[2]) <= LONGEST_BY_PRODUCTS


def attend_by_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for heads (B, H, S, d), (B, H, L, d), (B, H, L, d)."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1, dtype=q.dtype) @ v


def fold(x: Tensor, axis: Axis) -> Tensor:
    """Tokens (B, F, N, D) -> (B*F, N, D) for space, (B*N, F, D) for time."""
    return x.flatten(0, 1) if axis == "space" else x.transpose(1, 2).flatten(0, 1)


def unfold(x: Tensor, axis: Axis, batch: int) -> Tensor:
    """Undo `fold`."""
    x = x.unflatten(0, (batch, -1))
    return x if axis == "space" else x.transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head attention inside a sequence (B, S, D) with heads of width `head_dim`."""

    def __init__(self, hidden_size: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(hidden_size, 3 * num_heads * head_dim)
        self.proj = Linear(num_heads * head_dim, hidden_size)

    def forward(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """Sequences (B, S, D) -> (B, S, D)."""
        if x.shape[1] == 1:  # who attends itself alone reads its own value
            return self.proj(self._values(x))
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(attention(q, k, v, self.num_heads, rope=rope))

    def _values(self, x: Tensor) -> Tensor:
        """The values alone, where queries and keys need not be made."""
        layer = self.qkv
        if not is_plain(layer):
            return layer(x).chunk(3, dim=-1)[2]  # an adapter, or weights in a form of their own
        weight, bias = (part.chunk(3)[2] for part in (layer.weight, layer.bias))
        return F.linear(x, weight, bias)


def longest_absorbed(hidden_size: int, num_heads: int) -> int:
    """Tokens up to which a prompt is cheaper to read absorbed, with half the columns at most."""
    return hidden_size // (2 * num_heads)


class CrossAttention(nn.Module):
    """Tokens read the prompt. Keys and values are made once per prompt, never once per frame.

    `read` makes them for all steps of a run; without it, forward does so.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = Linear(hidden_size, hidden_size)
        self.kv = Linear(hidden_size, 2 * hidden_size)
        self.proj = Linear(hidden_size, hidden_size)

    def read(self, prompt: Prompt, absorb: bool = False) -> Prompt:
        """The prompt with this layer's keys and values; with `absorb`, absorbed if that pays."""
        k, v = self.kv(prompt.tokens.flatten(0, 1)).chunk(2, dim=-1)
        if absorb and k.shape[1] <= longest_absorbed(k.shape[2], self.num_heads):
            mask = None if prompt.mask is None else prompt.mask.flatten(0, 1)
            return prompt._replace(absorbed=self._absorb(k, v, mask))
        return prompt._replace(kv=(k, v))

    def _absorb(self, k: Tensor, v: Tensor, mask: Tensor | None) -> Absorbed:
        """Multiply the projections of queries and output into k and v (B, L, D)."""
        heads = (self.num_heads, -1)
        k, v = k.unflatten(2, heads), v.unflatten(2, heads)  # (B, L, H, d)
        k = k * k.shape[-1] ** -0.5
        bias = torch.einsum("blhd,hd->bhl", k, self.q.bias.unflatten(0, heads))
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None], -torch.inf)
        return Absorbed(
            torch.einsum("blhd,hdw->bhlw", k, self.q.weight.unflatten(0, heads)).flatten(1, 2),
            bias.flatten(1)[:, None],
            torch.einsum("blhd,whd->bhlw", v, self.proj.weight.unflatten(1, heads)).flatten(1, 2),
        )

    def forward(self, x: Tensor, prompt: Prompt) -> Tensor:
        """Tokens (B, F, N, D) read P prompts each, where P is 1 or F -> (B, F, N, D)."""
        batch, prompts = prompt.tokens.shape[:2]
        if prompt.absorbed is not None:
            rows = x.reshape(batch * prompts, -1, x.shape[-1])
            return self._read_absorbed(rows, prompt.absorbed).reshape(x.shape)
        rows = self.q(x).reshape(batch * prompts, -1, x.shape[-1])  # (B, F*N, D) or (B*F, N, D)
        k, v = prompt.kv or self.read(prompt).kv  # type: ignore[misc]
        mask = None if prompt.mask is None else prompt.mask.flatten(0, 1)
        return self.proj(attention(rows, k, v, self.num_heads, mask)).reshape(x.shape)

    def _read_absorbed(self, rows: Tensor, absorbed: Absorbed) -> Tensor:
        """Rows (B, S, D) read what `_absorb` made -> (B, S, D)."""
        scores = torch.baddbmm(absorbed.bias, rows, absorbed.keys.transpose(1, 2))
        weights = scores.unflatten(2, (self.num_heads, -1)).softmax(dim=-1).flatten(2)
        return torch.baddbmm(self.proj.bias, weights, absorbed.values)
