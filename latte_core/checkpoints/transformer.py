"""The denoiser's weights: from any known state dict, from and to its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from latte_core.checkpoints.files import (
    read_json,
    read_tensors,
    replacing,
    write_json,
    write_tensors,
)
from latte_core.checkpoints.keys import NameMap, own_names, t2v_names, to_foreign, to_own
from latte_core.errors import CheckpointError, ConfigError
from latte_core.model import Latte, ModelConfig

MAX_SHARD_BYTES = 15_000_000  # a size that source forges take without large-file storage
# In original T2V files: the empty caption of training, which no forward pass reads.
UNUSED_T2V = "caption_projection.y_embedding"


def to_diffusers_state(model: Latte) -> dict[str, Tensor]:
    """The weights under the names that diffusers' LatteTransformer3DModel has for them.

    Raises CheckpointError for a model that this class cannot hold.
    """
    if not model.config.is_t2v:
        raise CheckpointError(
            "Only the text-to-video layout (variant 1, text, adaln_single, absolute positions, "
            "uniform patch) has a form in diffusers."
        )
    return to_foreign(model.state_dict(), t2v_names, model.config)


def load_transformer(folder: Path, dtype: torch.dtype | None = None) -> Latte:
    """Read `config.json` and safetensors, single or sharded, of ours or of a Latte-1 folder.

    `dtype` casts the weights as they are read; None keeps the file's. Raises CheckpointError.
    """
    try:
        config = ModelConfig.from_json(read_json(folder / "config.json"))
    except ConfigError as error:
        raise CheckpointError(
            f"{folder / 'config.json'} does not describe a Latte: {error}"
        ) from error
    names = t2v_names if config.is_t2v else own_names
    try:
        return build(config, read_tensors(folder, dtype), names)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def save_transformer(
    model: Latte,
    folder: Path,
    dtype: torch.dtype = torch.float16,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write `config.json` and safetensors, under diffusers' names where diffusers knows the layout.

    All or nothing: a new folder is filled beside the old one, then takes its place.
    Raises CheckpointError for weights that are not finite in `dtype`.
    """
    state = to_diffusers_state(model) if model.config.is_t2v else model.state_dict()
    state = {name: tensor.detach().to("cpu", dtype) for name, tensor in state.items()}
    check_finite(state)
    with replacing(folder) as fresh:
        write_tensors(state, fresh, max_shard_bytes)
        write_json(fresh / "config.json", model.config.to_json())


def build(config: ModelConfig, state: Mapping[str, Tensor], names: NameMap) -> Latte:
    """A model on the state's own tensors. Raises CheckpointError for what does not fit."""
    state = {name: tensor for name, tensor in state.items() if name != UNUSED_T2V}
    check_finite(state)
    with torch.device("meta"):
        model = Latte(config)
    model.load_state_dict(to_own(state, names, model.state_dict()), assign=True)
    return model.eval()


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for a tensor that holds NaN or infinity, or no data at all."""
    for name, tensor in state.items():
        if tensor.is_meta:
            raise CheckpointError(f"{name} has a shape but no data; load the weights first.")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{name} holds NaN or infinity in {tensor.dtype}; the training run or the file is "
                "damaged. Use an earlier checkpoint, or fetch the file again."
            )
