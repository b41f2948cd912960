"""Start a video model from an image model: DiT or PixArt-alpha, with new blocks that wait.

Every block of the image model becomes space attention of the video model, and time attention is
new. It starts with gates or output layers of zero, so that each frame of a clip is, at first, the
picture that the image model makes of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latte_core.checkpoints.keys import to_own
from latte_core.checkpoints.recognise import Intake, Recognised, recognise, table_notes, take
from latte_core.checkpoints.transformer import check_finite
from latte_core.checkpoints.weights import read_source
from latte_core.errors import CheckpointError, ConfigError
from latte_core.model import Latte, ModelConfig, layout, zero_init_temporal
from latte_core.model.conditioning import timestep_features

# What an image model decides; everything else about the video model can be chosen.
FIXED = (
    *("hidden_size", "num_heads", "in_channels", "out_channels"),
    *("patch_size", "mlp_ratio", "injection"),
)
# Of PixArt-alpha at 1024 pixels, in its own files and in diffusers': size, aspect, their layers.
SIZE_CONDITIONS = (
    ("csize_embedder.mlp", "ar_embedder.mlp", (".0", ".2")),
    (
        "adaln_single.emb.resolution_embedder",
        "adaln_single.emb.aspect_ratio_embedder",
        (".linear_1", ".linear_2"),
    ),
)
PIXELS_PER_LATENT = 8  # of the autoencoder of both image models
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


def initialise(source: str | os.PathLike[str] | Mapping[str, Any], **config_fields: Any) -> Latte:
    """A Latte that starts from the weights of an image model; a Latte's own are taken as they are.

    `source` is a file (`.pt`, `.pth`, `.safetensors`), a folder of diffusers or of ours, or a state
    dict. `config_fields` choose what an image model leaves open: `num_frames`, `sample_size`,
    `variant`, `temporal_positions`, `num_classes` (0 for none), `images`. Without a choice time
    positions are "rope": they leave the pictures alone, whereas the "absolute" table is added to
    the tokens, so that clips start near the image model's pictures and only stills equal them.
    An unconditional model starts as DiT with its "no class"; so does every class of another list.
    With DiT and its own `depth` (28) the blocks stay where they are and every second one becomes
    time attention: the paper's way, which keeps no picture.
    Raises CheckpointError for what is no whole model, ConfigError for what it cannot become.
    """
    if isinstance(source, Mapping):
        return start(recognise(source, config_fields)).model
    read = read_source(Path(source))
    found = recognise(read.state, config_fields, read.config)
    # Copies, because a trainer writes to them and the file may go.
    own = {name: tensor.clone() for name, tensor in found.weights.items()}
    return start(replace(found, weights=own)).model


def start(found: Recognised) -> Intake:
    """The video model that these weights are of, or that starts from them."""
    if not found.layout.image:
        return take(found)
    plan = plan_start(found)
    check_finite(found.weights)
    weights, notes = image_weights(found, plan)
    notes += _fit_classes(weights, plan)
    if plan.video.variant == 3 and plan.video.chain_modulation == "own":
        _widen_modulation(weights)

    model = Latte(plan.video)
    if not plan.in_place:
        zero_init_temporal(model)
    model.to(weights["patch.proj.weight"].dtype)
    sources = {key: plan.source_of(key) for key in model.state_dict()}
    placed = {key: weights[name] for key, name in sources.items() if name in weights}
    model.load_state_dict(placed, strict=False, assign=True)
    new = tuple(key for key in sources if key not in placed)
    notes += table_notes(found, model)
    taken = tuple(found.weights)
    return Intake(
        model.eval(), found.layout.title, taken, found.ignored, new, (*plan.notes, *notes)
    )


@dataclass(frozen=True)
class StartPlan:
    """The image model as a configuration, that of the video model, and what was decided.

    The image model is described as variant 2 with twice its blocks, of which the first half is it.
    With `in_place` a block keeps its number, also where it becomes time attention.
    """

    image: ModelConfig
    video: ModelConfig
    in_place: bool
    notes: tuple[str, ...]

    @property
    def blocks(self) -> int:
        """Number of blocks of the image model."""
        return self.image.depth // 2

    def source_of(self, key: str) -> str:
        """The image model's weight that starts this one of the video model; empty if it is new."""
        block = _BLOCK.fullmatch(key)
        if block is None:
            return key
        index, part = int(block[1]), block[2]
        if self.in_place:
            return key.replace(".attn.time.", ".attn.space.")
        specs = layout(self.video)
        if "space" not in specs[index].axes or part.startswith("attn.time."):
            return ""
        before = sum("space" in spec.axes for spec in specs[:index])
        return f"blocks.{before}.{part}"


def plan_start(found: Recognised) -> StartPlan:
    """Decide what the video model is like. Raises ConfigError for what it cannot be."""
    blocks, title = int(found.told["depth"]), found.layout.title
    try:
        image = ModelConfig(**(found.told | {"depth": 2 * blocks, "variant": 2}))
    except ConfigError as error:
        raise CheckpointError(f"{title} has a shape that no Latte has: {error}") from error
    given = dict(found.given)
    fixed = (*FIXED, "caption_channels") if image.conditioning == "text" else FIXED
    for name in fixed:
        if given.get(name, getattr(image, name)) != getattr(image, name):
            raise ConfigError(
                f"{name} is {given[name]!r}, but {title} has {getattr(image, name)!r}; leave it "
                "out to start from these weights."
            )
    in_place = _check_structure(given, image, title)
    kept = {name: getattr(image, name) for name in (*FIXED, "images", "sample_size")}
    chosen: dict[str, Any] = kept | _conditioning(given, image, title)
    variant = given.get("variant", 1)
    chosen["depth"] = blocks if in_place or variant > 2 else 2 * blocks
    chosen["sum_heads"] = "full" if variant == 4 else "half"
    chosen["temporal_positions"] = "absolute" if in_place else "rope"
    video = ModelConfig(**(chosen | given))
    return StartPlan(image, video, in_place, _position_notes(video, in_place))


def _check_structure(given: Mapping[str, Any], image: ModelConfig, title: str) -> bool:
    """Check depth, variant and patch; True if the blocks are to stay where they are."""
    blocks, variant = image.depth // 2, given.get("variant", 1)
    wanted = 2 * blocks if variant in (1, 2) else blocks
    depth = given.get("depth", wanted)
    in_place = depth == blocks and variant == 1 and image.conditioning != "text"
    if depth != wanted and not in_place:
        raise ConfigError(
            f"depth is {depth}; the {blocks} blocks of {title} need {wanted} in variant {variant}, "
            "where each has time attention of its own. Leave depth out."
        )
    if variant == 4 and given.get("sum_heads", "full") != "full":
        raise ConfigError(
            "sum_heads is 'half', but every head of an image model attends space; leave it out."
        )
    if given.get("patch_frames", 1) != 1:
        raise ConfigError(
            f"patch_frames is {given['patch_frames']}, but an image model reads single frames; "
            "leave it out."
        )
    return in_place


def _conditioning(given: Mapping[str, Any], image: ModelConfig, title: str) -> dict[str, Any]:
    """Conditioning of the video model: as chosen, else the image model's."""
    if image.conditioning == "text":
        if given.get("conditioning", "text") != "text" or given.get("num_classes", 0):
            raise ConfigError(f"{title} reads prompts; a model without them cannot start from it.")
        return {"conditioning": "text", "caption_channels": image.caption_channels}
    if "conditioning" in given:
        kept = image.num_classes if given["conditioning"] == "class" else 0
        return {"num_classes": kept}
    classes = given.get("num_classes", image.num_classes)
    return {"conditioning": "class" if classes else "none", "num_classes": classes}


def _position_notes(video: ModelConfig, in_place: bool) -> tuple[str, ...]:
    """What the choice of time positions means for the first pictures."""
    if in_place:
        return ("Every second block becomes time attention, so the pictures are not kept.",)
    if video.temporal_positions == "rope":
        return ("Time positions are rope: every frame starts as the image model's picture.",)
    return (
        "Time positions are a table added to the tokens: stills start as the image model's "
        "pictures, frames of a clip near them.",
    )


def image_weights(found: Recognised, plan: StartPlan) -> tuple[dict[str, Tensor], list[str]]:
    """The image model's weights under our names, blocks with their own numbers.

    Raises CheckpointError that names what is missing, left over or misshapen.
    """
    weights = dict(found.weights)
    pixels = plan.image.sample_size * PIXELS_PER_LATENT
    extra = _take_sizes(weights, pixels)
    with torch.device("meta"):
        expected = Latte(plan.image).state_dict()
    for key in list(expected):
        block = _BLOCK.fullmatch(key)
        if block is not None and int(block[1]) >= plan.blocks:
            del expected[key]
    own = to_own(weights, found.layout.names, expected)
    if extra is None:
        return own, []
    bias = own["timestep.fc2.bias"]
    own["timestep.fc2.bias"] = bias + extra.to(bias.dtype)
    return own, [f"What it is told of the picture's size is fixed at {pixels} x {pixels} pixels."]


@torch.no_grad()
def _take_sizes(weights: dict[str, Tensor], pixels: int) -> Tensor | None:
    """Take the embeddings of size and aspect out; what they add to the timestep, (D,), or None.

    Source: PixArt-alpha, arXiv 2310.00426, section 2.4: resolution and aspect, side by side.
    """
    for size, aspect, layers in SIZE_CONDITIONS:
        if not any(name.startswith((f"{size}.", f"{aspect}.")) for name in weights):
            continue
        parts = []
        for stem, values in ((size, [pixels, pixels]), (aspect, [1.0])):
            x = timestep_features(torch.tensor(values, dtype=torch.float32))
            for layer in layers:
                x = F.silu(x) if layer != layers[0] else x
                weight, bias = (
                    _pop(weights, f"{stem}{layer}.{kind}").float() for kind in ("weight", "bias")
                )
                x = F.linear(x.to(weight.device), weight, bias)
            parts.append(x.flatten())
        return torch.cat(parts)
    return None


def _pop(weights: dict[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise CheckpointError(f"The weights lack {name}; this file is not the whole model.")
    return weights.pop(name)


def _fit_classes(weights: dict[str, Tensor], plan: StartPlan) -> list[str]:
    """Bring the label table to the video model's classes, in place; the last row is "no class"."""
    image, video = plan.image, plan.video
    if video.conditioning == image.conditioning and video.num_classes == image.num_classes:
        return []
    width, bias = image.hidden_size, weights["timestep.fc2.bias"]
    table = weights.pop("label.weight", torch.zeros(1, width, dtype=bias.dtype))
    if video.conditioning == "class":
        weights["label.weight"] = table[-1].repeat(video.num_classes + 1, 1)
        return [f"Each of the {video.num_classes} classes starts as the image model's 'no class'."]
    weights["timestep.fc2.bias"] = bias + table[-1]
    return ["The image model's 'no class' is folded into the timestep; its classes are left out."]


def _widen_modulation(weights: dict[str, Tensor]) -> None:
    """Give time attention three vectors of its own, those of space attention, in place."""
    for name, tensor in weights.items():
        block = _BLOCK.fullmatch(name)
        if (block is not None and block[2].startswith("modulation.")) or name.startswith("shared."):
            attention, mlp = tensor.chunk(2)
            weights[name] = torch.cat([attention, attention, mlp])
