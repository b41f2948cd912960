"""The averaged weights that a stage of the recipe leaves, for the next one and for the bundle."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from latte_core.errors import DataError

WEIGHTS = "average.safetensors"


def save_average(model: nn.Module, folder: Path) -> None:
    """Write the averaged weights of a stage, each tensor once."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if "text_encoder.shared.weight" in state:  # tied: one tensor under two names
        state.pop("text_encoder.encoder.embed_tokens.weight", None)
    save_file(state, folder / WEIGHTS)


def load_average(model: nn.Module, folder: Path) -> None:
    """Take over the averaged weights of a stage. Raises DataError if it has not been trained."""
    model.load_state_dict(load_state(folder))


def load_state(folder: Path) -> dict[str, Tensor]:
    """Read the averaged weights of a stage. Raises DataError if it has not been trained."""
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        raise DataError(f"There are no weights at {path}; train that stage first.")
    state = load_file(path)
    if "text_encoder.shared.weight" in state:
        state["text_encoder.encoder.embed_tokens.weight"] = state["text_encoder.shared.weight"]
    return state
