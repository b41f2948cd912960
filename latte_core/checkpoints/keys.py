"""Names of weights: from ours to those of other Latte files, one to one or one to three.

A foreign name list in place of one name means that our tensor is theirs, concatenated: queries,
keys and values are one matrix here. Patch kernels differ in shape only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from latte_core.errors import CheckpointError
from latte_core.model import ModelConfig

NameMap = Callable[[str], tuple[str, ...]]

_T2V_PARTS = {
    "patch.proj": ("pos_embed.proj",),
    "timestep.fc1": ("adaln_single.emb.timestep_embedder.linear_1",),
    "timestep.fc2": ("adaln_single.emb.timestep_embedder.linear_2",),
    "shared.linear": ("adaln_single.linear",),
    "prompt.fc1": ("caption_projection.linear_1",),
    "prompt.fc2": ("caption_projection.linear_2",),
    "head.linear": ("proj_out",),
}
_T2V_BLOCK_PARTS = {
    "attn.space.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.time.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.space.proj": ("attn1.to_out.0",),
    "attn.time.proj": ("attn1.to_out.0",),
    "cross.q": ("attn2.to_q",),
    "cross.kv": ("attn2.to_k", "attn2.to_v"),
    "cross.proj": ("attn2.to_out.0",),
    "mlp.fc1": ("ff.net.0.proj",),
    "mlp.fc2": ("ff.net.2",),
}
_CLASS_PARTS = {
    "patch.proj": ("x_embedder.proj",),
    "timestep.fc1": ("t_embedder.mlp.0",),
    "timestep.fc2": ("t_embedder.mlp.2",),
    "label": ("y_embedder.embedding_table",),
    "head.modulation.linear": ("final_layer.adaLN_modulation.1",),
    "head.linear": ("final_layer.linear",),
}
_CLASS_BLOCK_PARTS = {
    "attn.space.qkv": ("attn.qkv",),
    "attn.time.qkv": ("attn.qkv",),
    "attn.space.proj": ("attn.proj",),
    "attn.time.proj": ("attn.proj",),
    "mlp.fc1": ("mlp.fc1",),
    "mlp.fc2": ("mlp.fc2",),
    "modulation.linear": ("adaLN_modulation.1",),
}
_PIXART_PARTS = {
    "patch.proj": ("x_embedder.proj",),
    "timestep.fc1": ("t_embedder.mlp.0",),
    "timestep.fc2": ("t_embedder.mlp.2",),
    "shared.linear": ("t_block.1",),
    "prompt.fc1": ("y_embedder.y_proj.fc1",),
    "prompt.fc2": ("y_embedder.y_proj.fc2",),
    "head.linear": ("final_layer.linear",),
}
_PIXART_BLOCK_PARTS = {
    "attn.space.qkv": ("attn.qkv",),
    "attn.space.proj": ("attn.proj",),
    "cross.q": ("cross_attn.q_linear",),
    "cross.kv": ("cross_attn.kv_linear",),
    "cross.proj": ("cross_attn.proj",),
    "mlp.fc1": ("mlp.fc1",),
    "mlp.fc2": ("mlp.fc2",),
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")


def own_names(key: str) -> tuple[str, ...]:
    """The names of our own files: the model's."""
    return (key,)


def t2v_names(key: str) -> tuple[str, ...]:
    """Names in diffusers' LatteTransformer3DModel: space and time blocks are two lists there."""
    if key == "head.modulation.table":
        return ("scale_shift_table",)
    if table := re.fullmatch(r"blocks\.(\d+)\.modulation\.table", key):
        return (f"{_t2v_block(int(table[1]))}.scale_shift_table",)
    if block := _BLOCK.fullmatch(key):
        stem = _t2v_block(int(block[1]))
        return tuple(f"{stem}.{part}.{block[3]}" for part in _T2V_BLOCK_PARTS[block[2]])
    part, _, kind = key.rpartition(".")
    return tuple(f"{name}.{kind}" for name in _T2V_PARTS[part])


def class_names(key: str) -> tuple[str, ...]:
    """Names in the original class, unconditional and joint models."""
    if block := _BLOCK.fullmatch(key):
        names = _CLASS_BLOCK_PARTS[block[2]]
        return tuple(f"blocks.{block[1]}.{name}.{block[3]}" for name in names)
    part, _, kind = key.rpartition(".")
    return tuple(f"{name}.{kind}" for name in _CLASS_PARTS[part])


def pixart_names(key: str) -> tuple[str, ...]:
    """Names in PixArt-alpha's own files. Blocks have the number that they have in the image model.

    Source: PixArt-alpha's conversion script in diffusers' repository.
    """
    if key == "head.modulation.table":
        return ("final_layer.scale_shift_table",)
    if table := re.fullmatch(r"blocks\.(\d+)\.modulation\.table", key):
        return (f"blocks.{table[1]}.scale_shift_table",)
    if block := _BLOCK.fullmatch(key):
        names = _PIXART_BLOCK_PARTS[block[2]]
        return tuple(f"blocks.{block[1]}.{name}.{block[3]}" for name in names)
    part, _, kind = key.rpartition(".")
    return tuple(f"{name}.{kind}" for name in _PIXART_PARTS[part])


def pixart_diffusers_names(key: str) -> tuple[str, ...]:
    """Names in diffusers' PixArtTransformer2DModel: those of the T2V model without time blocks."""
    return t2v_names(re.sub(r"(?<=^blocks\.)\d+", lambda found: str(2 * int(found[0])), key))


def _t2v_block(index: int) -> str:
    """Blocks alternate in our one list: even ones attend space, odd ones time."""
    return f"{'temporal_' if index % 2 else ''}transformer_blocks.{index // 2}"


def to_foreign(
    state: Mapping[str, Tensor], names: NameMap, config: ModelConfig
) -> dict[str, Tensor]:
    """Rename our tensors, cut the concatenated ones, shape the patch kernel as a convolution's."""
    foreign: dict[str, Tensor] = {}
    for key, tensor in state.items():
        targets = names(key)
        if key == "patch.proj.weight" and names is not own_names:
            size = config.patch_size
            tensor = tensor.unflatten(1, (config.in_channels, size, size))
        foreign.update(zip(targets, tensor.chunk(len(targets)), strict=True))
    return foreign


def to_own(
    state: Mapping[str, Tensor], names: NameMap, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Undo `to_foreign` for the weights that are `expected`, of which only the shapes matter.

    Raises CheckpointError that names the first missing, surplus or misshapen tensor.
    """
    used: set[str] = set()
    own = {}
    for key, wanted in expected.items():
        sources = names(key)
        if missing := [name for name in sources if name not in state]:
            raise CheckpointError(
                f"The weights lack {missing[0]}; this file is not the whole model."
            )
        used.update(sources)
        parts = [state[name] for name in sources]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        if key == "patch.proj.weight":
            tensor = tensor.flatten(1)
        if tensor.shape != wanted.shape:
            raise CheckpointError(
                f"{' + '.join(sources)} has shape {tuple(tensor.shape)}, but the configuration "
                f"asks for {tuple(wanted.shape)}. The weights belong to another configuration."
            )
        own[key] = tensor
    if surplus := sorted(state.keys() - used):
        raise CheckpointError(
            f"The weights hold {len(surplus)} tensors that the model has no place for, such as "
            f"{surplus[0]}. They belong to another configuration."
        )
    return own
