"""Model folders: read, write, verify; names of weights in every known Latte file.

Names load what they need when first used, so that `Defaults` and `Manifest` come without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latte_core.checkpoints.recognise import from_state_dict
    from latte_core.checkpoints.transformer import (
        load_transformer,
        save_transformer,
        to_diffusers_state,
    )

_HOMES = {
    "from_state_dict": "recognise",
    "load_transformer": "transformer",
    "save_transformer": "transformer",
    "to_diffusers_state": "transformer",
}

__all__ = [
    "from_state_dict",
    "load_transformer",
    "save_transformer",
    "to_diffusers_state",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
