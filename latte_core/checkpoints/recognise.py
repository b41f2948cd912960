"""State dicts of unknown origin: find the layout by its names, the configuration by its shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from math import isqrt
from typing import Any, NamedTuple

from torch import Tensor

from latte_core.checkpoints.keys import NameMap, class_names, own_names, t2v_names
from latte_core.checkpoints.transformer import UNUSED_T2V, build
from latte_core.errors import CheckpointError, ConfigError
from latte_core.model import Latte, ModelConfig
from latte_core.model.config import SIZES

State = Mapping[str, Tensor]
WRAPPERS = ("ema", "model")  # of training checkpoints; the averaged weights are preferred
PREFIXES = ("_orig_mod.", "module.")  # left by torch.compile and by data-parallel training
# Computed here for whatever size is asked for, so never loaded; time_embed is an early spelling.
TABLES = ("pos_embed", "temp_embed", "time_embed", "pos_embed.pos_embed", "temp_pos_embed")


class FileLayout(NamedTuple):
    """One kind of state dict: a name that only it has, its names, and how to read its shapes."""

    sign: str
    names: NameMap
    infer: Callable[[State, dict[str, Any]], dict[str, Any]]


def from_state_dict(state: Mapping[str, Any], **config_fields: Any) -> Latte:
    """A Latte from the weights of ours, of diffusers' T2V model or of an original Latte file.

    Understands the `ema` and `model` wrappers of training checkpoints and the prefixes of compiled
    and parallel models. Shapes give the configuration; `config_fields` give what they cannot tell,
    such as `num_heads=6`, `sample_size` or `temporal_positions`, and take precedence, so another
    `sample_size` or `num_frames` rebuilds the tables. The weights are used, not copied.
    Raises CheckpointError that names what is missing, left over or misshapen.
    """
    weights = _plain(state)
    known = {field.name for field in fields(ModelConfig)}
    if unknown := sorted(config_fields.keys() - known):
        raise ConfigError(f"Unknown model settings: {', '.join(unknown)}.")
    for layout in LAYOUTS:
        if layout.sign in weights:
            break
    else:
        raise CheckpointError(
            "These weights are of no Latte that is known here. A patch embedding was looked for "
            f"({', '.join(layout.sign for layout in LAYOUTS)}); the first names are "
            f"{', '.join(list(weights)[:3]) or 'missing'}."
        )
    try:
        config = ModelConfig(**(layout.infer(weights, config_fields) | config_fields))
    except KeyError as error:
        raise CheckpointError(f"The weights lack {error}; this is not the whole model.") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"The weights have shapes that no Latte has: {error}.") from error
    ignored = (*TABLES, UNUSED_T2V)
    kept = {name: tensor for name, tensor in weights.items() if name not in ignored}
    return build(config, kept, layout.names)


def _plain(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take wrappers and prefixes away."""
    for wrapper in WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            return _plain(state[wrapper])
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{name} is a {type(tensor).__name__}; weights are tensors.")
        for prefix in PREFIXES:
            name = name.replace(prefix, "") if prefix == "_orig_mod." else name.removeprefix(prefix)
        plain[name] = tensor
    return plain


def _num_heads(hidden_size: int, given: dict[str, Any]) -> int:
    """Heads as given, or those of the published size of this width: shapes do not show them."""
    for _, width, heads in SIZES.values():
        if "num_heads" in given or width == hidden_size:
            return int(given.get("num_heads", heads))
    raise CheckpointError(
        f"Width {hidden_size} is of no published size, and shapes do not show the number of "
        "attention heads; pass num_heads."
    )


def _count(state: State, prefix: str) -> int:
    """How many blocks are numbered behind `prefix`."""
    starts = (name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix))
    return 1 + max((int(number) for number in starts if number.isdigit()), default=-1)


def _infer_t2v(state: State, given: dict[str, Any]) -> dict[str, Any]:
    """Diffusers' T2V model and the original one; both keep no tables, so Latte-1's sizes hold."""
    width, channels, size, _ = state["pos_embed.proj.weight"].shape
    return {
        "hidden_size": width,
        "depth": 2 * _count(state, "transformer_blocks."),
        "num_heads": _num_heads(width, given),
        "in_channels": channels,
        "out_channels": len(state["proj_out.weight"]) // size**2,
        "patch_size": size,
        "sample_size": 64,
        "conditioning": "text",
        "injection": "adaln_single",
        "images": "length_one",
        "caption_channels": state["caption_projection.linear_1.weight"].shape[1],
    }


def _infer_class(state: State, given: dict[str, Any]) -> dict[str, Any]:
    """The original class, unconditional and joint models: their tables tell frames and size."""
    width, channels, size, _ = state["x_embedder.proj.weight"].shape
    labels = state.get("y_embedder.embedding_table.weight")
    found: dict[str, Any] = {
        "hidden_size": width,
        "depth": _count(state, "blocks."),
        "num_heads": _num_heads(width, given),
        "in_channels": channels,
        "out_channels": len(state["final_layer.linear.weight"]) // size**2,
        "patch_size": size,
        "mlp_ratio": len(state["blocks.0.mlp.fc1.weight"]) // width,
        "conditioning": "none" if labels is None else "class",
        "num_classes": 0 if labels is None else len(labels) - 1,
    }
    if "pos_embed" in state:
        found["sample_size"] = isqrt(state["pos_embed"].shape[1]) * size
    time = state.get("temp_embed", state.get("time_embed"))
    return found if time is None else found | {"num_frames": time.shape[1]}


def _infer_own(state: State, given: dict[str, Any]) -> dict[str, Any]:
    """Our own names. Other than 4 channels, rope, and variant 4 with all heads have to be given."""
    width, patch = state["patch.proj.weight"].shape
    channels = given.get("in_channels", 4)
    tubes = state["upsample.weight"].shape[2] if "upsample.weight" in state else 1
    size = isqrt(patch // (channels * tubes))
    labels, captions = state.get("label.weight"), state.get("prompt.fc1.weight")
    conditioning = "text" if captions is not None else "none" if labels is None else "class"
    return {
        "hidden_size": width,
        "depth": _count(state, "blocks."),
        "num_heads": _num_heads(width, given),
        "in_channels": channels,
        "out_channels": len(state["head.linear.weight"]) // size**2,
        "patch_size": size,
        "patch_frames": tubes,
        "mlp_ratio": len(state["blocks.0.mlp.fc1.weight"]) // width,
        "conditioning": conditioning,
        "num_classes": 0 if labels is None else len(labels) - 1,
        "caption_channels": 0 if captions is None else captions.shape[1],
    } | _infer_own_blocks(state, width)


def _infer_own_blocks(state: State, width: int) -> dict[str, Any]:
    """Variant and injection, from what the first two blocks hold."""
    mixed = "blocks.0.attn.time.qkv.weight" in state
    if mixed:
        variant = 4 if len(state["blocks.0.attn.time.qkv.weight"]) < 3 * width else 3
    else:
        variant = 2 if "blocks.1.attn.space.qkv.weight" in state else 1
    if "shared.linear.weight" in state:
        injection, vectors = "adaln_single", len(state["blocks.0.modulation.table"])
    elif "blocks.0.modulation.linear.weight" in state:
        injection, vectors = "adaln_zero", len(state["blocks.0.modulation.linear.weight"]) // width
    else:  # tables without gates
        injection, vectors = "all_tokens", len(state["blocks.0.modulation.table"]) * 3 // 2
    own = "own" if vectors == 9 else "shared"
    return {"variant": variant, "injection": injection, "chain_modulation": own}


LAYOUTS = (
    FileLayout("patch.proj.weight", own_names, _infer_own),
    FileLayout("pos_embed.proj.weight", t2v_names, _infer_t2v),
    FileLayout("x_embedder.proj.weight", class_names, _infer_class),
)
