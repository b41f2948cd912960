"""State dicts of unknown origin: find the layout by its names, the configuration by its shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import isqrt
from typing import Any, NamedTuple

from torch import Tensor

from latte_core.checkpoints.keys import (
    NameMap,
    class_names,
    own_names,
    pixart_diffusers_names,
    pixart_names,
    t2v_names,
)
from latte_core.checkpoints.transformer import build
from latte_core.errors import CheckpointError, ConfigError
from latte_core.model import Latte, ModelConfig
from latte_core.model.config import SIZES

State = Mapping[str, Tensor]
# Of training checkpoints, the averaged weights preferred: Latte's and DiT's, and PixArt-alpha's.
WRAPPERS = ("ema", "state_dict_ema", "model", "state_dict")
PREFIXES = ("_orig_mod.", "module.")  # left by torch.compile and by data-parallel training
RENAMED = {"time_embed": "temp_embed"}  # an early spelling
COMPUTED = "a position table, computed here for whatever size is asked for"
NULL_CAPTION = "the empty caption of training, which no forward pass reads"
UNUSED = {
    "pos_embed": COMPUTED,
    "temp_embed": COMPUTED,
    "pos_embed.pos_embed": COMPUTED,
    "temp_pos_embed": COMPUTED,
    "caption_projection.y_embedding": NULL_CAPTION,
    "y_embedder.y_embedding": NULL_CAPTION,
}
NO_LATTE = "The weights have shapes that no Latte has"
TABLE_TOLERANCE = 1e-3  # between a file's position table and the formula's; half precision is finer
# PixArt-alpha at 1024 pixels is told the size of the picture by two more embeddings.
SIZE_EMBEDDINGS = (
    "csize_embedder.mlp.0.weight",
    "adaln_single.emb.resolution_embedder.linear_1.weight",
)


class FileLayout(NamedTuple):
    """One kind of state dict: beginnings of names that only it has, its names, how to read shapes.

    The first sign is the patch embedding. `image` models have blocks of space attention only.
    """

    title: str
    signs: tuple[str, ...]
    names: NameMap
    infer: Callable[[State, dict[str, Any]], dict[str, Any]]
    image: bool = False


@dataclass(frozen=True)
class Recognised:
    """Weights whose layout is known: what a model can take, its settings, and what it leaves.

    `told` are fields of a ModelConfig that names, shapes and the config beside the weights tell; of
    an image model, `depth` counts its own blocks. `given` are the caller's. `ignored` maps names to
    the reason, `tables` are the position tables among them.
    """

    layout: FileLayout
    weights: dict[str, Tensor]
    told: dict[str, Any]
    given: dict[str, Any]
    ignored: dict[str, str]
    tables: dict[str, Tensor]

    @property
    def config(self) -> ModelConfig:
        """What the caller and the weights say together; raises CheckpointError for nonsense."""
        try:
            return ModelConfig(**(self.told | self.given))
        except ConfigError as error:
            what = "These settings do not suit the weights" if self.given else NO_LATTE
            raise CheckpointError(f"{what}: {error}") from error


@dataclass(frozen=True)
class Intake:
    """A model made of foreign weights, and what became of them.

    `taken` are names in the source, `new` names of ours that have no weights there; `ignored` maps
    names in the source to the reason. `notes` are sentences about everything else that was decided.
    """

    model: Latte
    title: str
    taken: tuple[str, ...]
    ignored: Mapping[str, str]
    new: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def from_state_dict(state: Mapping[str, Any], **config_fields: Any) -> Latte:
    """A Latte from the weights of ours, of diffusers' T2V model or of an original Latte file.

    Understands the `ema` and `model` wrappers of training checkpoints and the prefixes of compiled
    and parallel models. Shapes give the configuration; `config_fields` give what they cannot tell,
    such as `num_heads=6`, `sample_size` or `temporal_positions`, and take precedence, so another
    `sample_size` or `num_frames` rebuilds the tables. The weights are used, not copied.
    Raises CheckpointError that names what is missing, left over or misshapen.
    """
    return take(recognise(state, config_fields)).model


def take(found: Recognised) -> Intake:
    """The Latte that these weights are of. Raises CheckpointError for an image model's."""
    if found.layout.image:
        raise CheckpointError(
            f"These are the weights of {found.layout.title}, which makes images. Start a video "
            "model from them with latte_core.checkpoints.initialise, or with the command convert."
        )
    model = build(found.config, found.weights, found.layout.names)
    notes = table_notes(found, model)
    return Intake(model, found.layout.title, tuple(found.weights), found.ignored, notes=notes)


def recognise(
    state: Mapping[str, Any], given: Mapping[str, Any], config: Mapping[str, Any] | None = None
) -> Recognised:
    """Find out whose weights these are.

    `given` and `config` are fields of a ModelConfig: the caller's, which take precedence, and those
    that a file beside the weights tells. Raises CheckpointError for weights of no known model.
    """
    weights, ignored = _plain(state)
    known = {field.name for field in fields(ModelConfig)}
    if unknown := sorted(given.keys() - known):
        raise ConfigError(f"Unknown model settings: {', '.join(unknown)}.")
    layout, beside = _find_layout(weights), dict(config or {})
    try:
        told = layout.infer(weights, beside | dict(given)) | beside
    except KeyError as error:
        raise CheckpointError(f"The weights lack {error}; this is not the whole model.") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"{NO_LATTE}: {error}.") from error
    tables = {name: weights[name] for name in UNUSED if name in weights}
    ignored |= {name: UNUSED[name] for name in tables}
    kept = {name: tensor for name, tensor in weights.items() if name not in tables}
    return Recognised(layout, kept, told, dict(given), ignored, tables)


def table_notes(found: Recognised, model: Latte) -> tuple[str, ...]:
    """A sentence for each position table of the file that is not what the formula gives."""
    ours = {"pos_embed": model.positions.space, "temp_embed": model.positions.time}
    notes = []
    for name, computed in ours.items():
        table = found.tables.get(name)
        if table is None or table.is_meta or table.numel() != computed.numel():
            continue
        away = float((table.float().reshape(-1) - computed.reshape(-1)).abs().max())
        if not away <= TABLE_TOLERANCE:
            notes.append(
                f"{name} in the file is not the usual table (it is {away:.3g} away); the usual one "
                "is used, so outputs will differ from the model that wrote the file."
            )
    return tuple(notes)


def _find_layout(weights: State) -> FileLayout:
    """The first layout all of whose signs begin some name."""
    for layout in LAYOUTS:
        if layout.signs[0] in weights and all(
            any(name.startswith(sign) for name in weights) for sign in layout.signs
        ):
            return layout
    signs = sorted({layout.signs[0] for layout in LAYOUTS})
    raise CheckpointError(
        "These weights are of no Latte that is known here. A patch embedding was looked for "
        f"({', '.join(signs)}); the first names are {', '.join(list(weights)[:3]) or 'missing'}."
    )


def _plain(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Take wrappers and prefixes away; the second result names what lay beside the weights."""
    for wrapper in WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            weights, ignored = _plain(state[wrapper])
            beside = {str(name): f"beside {wrapper}" for name in state if name != wrapper}
            return weights, beside | ignored
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{name} is a {type(tensor).__name__}; weights are tensors.")
        for prefix in PREFIXES:
            name = name.replace(prefix, "") if prefix == "_orig_mod." else name.removeprefix(prefix)
        plain[RENAMED.get(name, name)] = tensor
    return plain, {}


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
    time = state.get("temp_embed")
    return found if time is None else found | {"num_frames": time.shape[1]}


def _infer_pixart(state: State, given: dict[str, Any]) -> dict[str, Any]:
    """PixArt-alpha's own files, and diffusers' PixArtTransformer2DModel, which keeps no table."""
    stock = "pos_embed.proj.weight" in state
    patch = state["pos_embed.proj.weight" if stock else "x_embedder.proj.weight"]
    captions = "caption_projection.linear_1" if stock else "y_embedder.y_proj.fc1"
    first = "transformer_blocks.0.ff.net.0.proj" if stock else "blocks.0.mlp.fc1"
    head = "proj_out.weight" if stock else "final_layer.linear.weight"
    width, channels, size, _ = patch.shape
    if "pos_embed" in state:
        side = isqrt(state["pos_embed"].shape[1]) * size
    else:
        side = 128 if any(name in state for name in SIZE_EMBEDDINGS) else 64
    return {
        "hidden_size": width,
        "depth": _count(state, "transformer_blocks." if stock else "blocks."),
        "num_heads": _num_heads(width, given),
        "in_channels": channels,
        "out_channels": len(state[head]) // size**2,
        "patch_size": size,
        "sample_size": side,
        "mlp_ratio": len(state[f"{first}.weight"]) // width,
        "conditioning": "text",
        "injection": "adaln_single",
        "images": "length_one",
        "caption_channels": state[f"{captions}.weight"].shape[1],
    }


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
    FileLayout("a Latte of this project", ("patch.proj.weight",), own_names, _infer_own),
    FileLayout(
        "a text-to-video Latte",
        ("pos_embed.proj.weight", "temporal_transformer_blocks."),
        t2v_names,
        _infer_t2v,
    ),
    FileLayout(
        "PixArt-alpha (diffusers)",
        ("pos_embed.proj.weight",),
        pixart_diffusers_names,
        _infer_pixart,
        image=True,
    ),
    FileLayout(
        "an original class, unconditional or joint Latte",
        ("x_embedder.proj.weight", "temp_embed"),
        class_names,
        _infer_class,
    ),
    FileLayout(
        "PixArt-alpha",
        ("x_embedder.proj.weight", "t_block."),
        pixart_names,
        _infer_pixart,
        image=True,
    ),
    FileLayout("DiT", ("x_embedder.proj.weight",), class_names, _infer_class, image=True),
)
