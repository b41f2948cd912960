"""Low-rank additions to a denoiser (LoRA): write, read and merge files that diffusers reads too.

A file holds, for each linear layer, `transformer.<layer>.lora_A.weight` (r, in) and
`.lora_B.weight` (out, r); the layer's weight grows by alpha / r * B A. Layers have diffusers'
names where diffusers knows the layout, our own otherwise. Source: LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latte_core.checkpoints.files import read_header
from latte_core.checkpoints.keys import NameMap, own_names, t2v_names
from latte_core.checkpoints.transformer import check_finite
from latte_core.errors import CheckpointError
from latte_core.model import Latte, ModelConfig

FILE = "pytorch_lora_weights.safetensors"  # the name that diffusers looks for
PREFIX = "transformer."
METADATA = "lora_adapter_metadata"  # where diffusers keeps rank, alpha and layers, as JSON
A, B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class LoraWeights:
    """Factors of additions by our names of the layers: (r, in) and (out, r), and their alpha."""

    down: Mapping[str, Tensor]
    up: Mapping[str, Tensor]
    alpha: float

    @property
    def rank(self) -> int:
        """Inner width of the additions."""
        return len(next(iter(self.down.values())))


def save_lora(lora: LoraWeights, config: ModelConfig, folder: Path) -> Path:
    """Write the additions to a model of this configuration into `folder`; returns the file.

    Queries, keys and values are one layer here and three in diffusers: all three get the same A
    and a third of B, which is the same addition.
    """
    from safetensors.torch import save_file

    names = _names(config)
    state: dict[str, Tensor] = {}
    layers = []
    for layer, down in lora.down.items():
        targets = [name.removesuffix(".weight") for name in names(f"{layer}.weight")]
        for target, up in zip(targets, lora.up[layer].chunk(len(targets)), strict=True):
            state[PREFIX + target + A] = down.detach().cpu().clone()
            state[PREFIX + target + B] = up.detach().cpu().clone().contiguous()
            layers.append(target)
    check_finite(state)
    settings = {"r": lora.rank, "lora_alpha": lora.alpha, "target_modules": layers, "bias": "none"}
    described = json.dumps({PREFIX + name: value for name, value in settings.items()})
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{FILE}.partial"
    try:
        save_file(state, partial, metadata={"format": "pt", METADATA: described})
        partial.replace(folder / FILE)
    except OSError as error:
        raise CheckpointError(f"{folder / FILE} cannot be written: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return folder / FILE


def lora_file(path: Path) -> Path:
    """The LoRA file at `path`: itself, or the one in that folder."""
    return path / FILE if path.is_dir() else path


@torch.no_grad()
def merge_lora(model: Latte, path: Path, scale: float = 1.0) -> int:
    """Add a LoRA file, or the one in a folder, to the weights of `model`, for good.

    Names may begin with `transformer.`, as diffusers' pipelines write them, or not, as its models
    do. `scale` weakens or strengthens it. Returns the number of layers that changed. Raises
    CheckpointError for a damaged file and for one of another model, naming what does not fit.
    """
    file = lora_file(path)
    state, alphas = _read(file)
    names, changed = _names(model.config), 0
    used: set[str] = set()
    for key, weight in model.named_parameters():
        targets = [name.removesuffix(".weight") for name in names(key)]
        parts = [_product(state, target, alphas) for target in targets]
        if all(part is None for part in parts):
            continue
        used |= {target + end for target in targets for end in (A, B)}
        rows = weight.shape[0] // len(parts)
        for number, part in enumerate(parts):
            if part is None:
                continue
            place = weight[number * rows : (number + 1) * rows]
            if part.shape != place.shape:
                raise CheckpointError(
                    f"{file.name}: {targets[number]} adds {tuple(part.shape)} to a layer of "
                    f"{tuple(place.shape)}. It was made for another model."
                )
            place.copy_((place.float() + scale * part.to(place.device)).to(place.dtype))
        changed += 1
    if surplus := sorted(state.keys() - used):
        raise CheckpointError(
            f"{file.name} adds to layers that this model lacks, such as {surplus[0]}. It was made "
            "for another model."
        )
    return changed


def _names(config: ModelConfig) -> NameMap:
    return t2v_names if config.is_t2v else own_names


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The factors of a file, and alpha by layer where it says one."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise CheckpointError(f"There is no LoRA file {file}; give a file or its folder.")
    read_header(file)
    try:
        with safe_open(file, framework="pt") as opened:
            described = (opened.metadata() or {}).get(METADATA)
            state = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Fetch it again.") from error
    check_finite(state)
    settings = json.loads(described) if described else {}
    if any(name.startswith(PREFIX) for name in state):
        state = {_bare(name): value for name, value in state.items()}
        settings = {_bare(name): value for name, value in settings.items()}
    if not any(name.endswith((A, B)) for name in state):
        raise CheckpointError(
            f"{file} holds no LoRA: no name ends with {A!r}, the first one is "
            f"{next(iter(state), 'missing')!r}."
        )
    if settings.get("use_rslora") or settings.get("use_dora"):
        raise CheckpointError(f"{file} is of a kind (DoRA or rank-stabilised) that is not read.")
    return state, _take_alphas(state, settings)


def _take_alphas(state: dict[str, Tensor], settings: Mapping[str, Any]) -> dict[str, float]:
    """Alpha by layer, from the file's own entries, which are taken out, or from its settings."""
    end = ".alpha"
    alphas = {n.removesuffix(end): float(state.pop(n)) for n in list(state) if n.endswith(end)}
    own, common = settings.get("alpha_pattern") or {}, settings.get("lora_alpha")
    for name in state:
        layer = name.removesuffix(A).removesuffix(B)
        alpha = own.get(layer, common)
        if alpha is not None:
            alphas.setdefault(layer, float(alpha))
    return alphas


def _bare(name: str) -> str:
    return name.removeprefix(PREFIX)


def _product(state: Mapping[str, Tensor], layer: str, alphas: Mapping[str, float]) -> Tensor | None:
    """What a layer's weight grows by; None if the file leaves it alone."""
    down, up = state.get(layer + A), state.get(layer + B)
    if down is None and up is None:
        return None
    if down is None or up is None or down.ndim != 2 or up.ndim != 2 or up.shape[1] != len(down):
        raise CheckpointError(f"The LoRA file's factors of {layer} do not fit each other.")
    return up @ down * (alphas.get(layer, float(len(down))) / len(down))
