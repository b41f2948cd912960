"""State dicts under the names and shapes of the files that Latte, DiT and PixArt-alpha published.

Written down from the published tables of names, not made with the project's own key maps.
`make` turns a name and a shape into a tensor, so the same lists serve random weights at small size
and tensors without data at full size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Size:
    """Width, blocks of one kind, patches of a frame, frames, caption width."""

    width: int = 48
    blocks: int = 4
    places: int = 16
    frames: int = 4
    captions: int = 20
    patch: int = 2


XL = Size(width=1152, blocks=28, places=256, frames=16, captions=4096)


def fill(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Random weights in which every part speaks."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.5
        state[name] = torch.randn(shape, generator=generator) * scale
    return state


def hollow(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of these shapes without data."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def linear(name: str, inside: int, outside: int) -> Shapes:
    return {f"{name}.weight": (outside, inside), f"{name}.bias": (outside,)}


def dit_shapes(size: Size, label_rows: int = 0, table: bool = True) -> Shapes:
    """DiT's .pt file: what Latte's class models have, without a table of time."""
    d, p = size.width, size.patch
    shapes: Shapes = {"pos_embed": (1, size.places, d)} if table else {}
    shapes |= {"x_embedder.proj.weight": (d, 4, p, p), "x_embedder.proj.bias": (d,)}
    shapes |= linear("t_embedder.mlp.0", 256, d) | linear("t_embedder.mlp.2", d, d)
    if label_rows:
        shapes["y_embedder.embedding_table.weight"] = (label_rows, d)
    for i in range(size.blocks):
        shapes |= linear(f"blocks.{i}.attn.qkv", d, 3 * d) | linear(f"blocks.{i}.attn.proj", d, d)
        shapes |= linear(f"blocks.{i}.mlp.fc1", d, 4 * d) | linear(f"blocks.{i}.mlp.fc2", 4 * d, d)
        shapes |= linear(f"blocks.{i}.adaLN_modulation.1", d, 6 * d)
    shapes |= linear("final_layer.linear", d, p * p * 8)
    return shapes | linear("final_layer.adaLN_modulation.1", d, 2 * d)


def class_shapes(size: Size, label_rows: int = 0, time: str = "temp_embed") -> Shapes:
    """ffs.pt, skytimelapse.pt, taichi-hd.pt; with 102 label rows ucf101.pt; LatteIMG alike."""
    return dit_shapes(size, label_rows) | {time: (1, size.frames, size.width)}


def t2v_shapes(size: Size, y_embedding: bool = True) -> Shapes:
    """t2v.pt, and Latte-1's transformer: two lists of blocks, queries, keys and values apart."""
    d, p, c = size.width, size.patch, size.captions
    shapes: Shapes = {"pos_embed.proj.weight": (d, 4, p, p), "pos_embed.proj.bias": (d,)}
    shapes |= linear("adaln_single.emb.timestep_embedder.linear_1", 256, d)
    shapes |= linear("adaln_single.emb.timestep_embedder.linear_2", d, d)
    shapes |= linear("adaln_single.linear", d, 6 * d)
    shapes |= linear("caption_projection.linear_1", c, d) | linear(
        "caption_projection.linear_2", d, d
    )
    if y_embedding:
        shapes["caption_projection.y_embedding"] = (120, c)
    for i in range(size.blocks):
        shapes |= _t2v_block(f"transformer_blocks.{i}", d, ("attn1", "attn2"))
        shapes |= _t2v_block(f"temporal_transformer_blocks.{i}", d, ("attn1",))
    return shapes | {"scale_shift_table": (2, d)} | linear("proj_out", d, p * p * 8)


def _t2v_block(stem: str, d: int, attentions: tuple[str, ...]) -> Shapes:
    shapes: Shapes = {f"{stem}.scale_shift_table": (6, d)}
    for attention in attentions:
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= linear(f"{stem}.{attention}.{part}", d, d)
    return shapes | linear(f"{stem}.ff.net.0.proj", d, 4 * d) | linear(f"{stem}.ff.net.2", 4 * d, d)


def pixart_shapes(size: Size, sizes: bool = False, table: bool = True) -> Shapes:
    """PixArt-alpha's .pth file; `sizes` are the embeddings of the 1024 pixel model."""
    d, p, c = size.width, size.patch, size.captions
    shapes: Shapes = {"pos_embed": (1, size.places, d)} if table else {}
    shapes |= {"x_embedder.proj.weight": (d, 4, p, p), "x_embedder.proj.bias": (d,)}
    shapes |= linear("t_embedder.mlp.0", 256, d) | linear("t_embedder.mlp.2", d, d)
    shapes |= linear("t_block.1", d, 6 * d) | {"y_embedder.y_embedding": (120, c)}
    shapes |= linear("y_embedder.y_proj.fc1", c, d) | linear("y_embedder.y_proj.fc2", d, d)
    if sizes:
        for stem in ("csize_embedder", "ar_embedder"):
            shapes |= linear(f"{stem}.mlp.0", 256, d // 3) | linear(f"{stem}.mlp.2", d // 3, d // 3)
    for i in range(size.blocks):
        stem = f"blocks.{i}"
        shapes |= {f"{stem}.scale_shift_table": (6, d)}
        shapes |= linear(f"{stem}.attn.qkv", d, 3 * d) | linear(f"{stem}.attn.proj", d, d)
        shapes |= linear(f"{stem}.cross_attn.q_linear", d, d)
        shapes |= linear(f"{stem}.cross_attn.kv_linear", d, 2 * d)
        shapes |= linear(f"{stem}.cross_attn.proj", d, d)
        shapes |= linear(f"{stem}.mlp.fc1", d, 4 * d) | linear(f"{stem}.mlp.fc2", 4 * d, d)
    shapes |= {"final_layer.scale_shift_table": (2, d)}
    return shapes | linear("final_layer.linear", d, p * p * 8)
