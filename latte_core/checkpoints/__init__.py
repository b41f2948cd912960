"""Model folders: read, write, verify; names of weights in every known Latte file.

Names load what they need when first used, so that `Defaults` and `Manifest` come without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latte_core.checkpoints.conversion import Conversion, ConvertOptions, convert
    from latte_core.checkpoints.folders import (
        TURBO_FOLDER,
        check_layout,
        resolve_model,
        verify_folder,
    )
    from latte_core.checkpoints.image_models import initialise
    from latte_core.checkpoints.manifest import (
        LATTE_1_DEFAULTS,
        Defaults,
        Manifest,
        PreviewMap,
        build_manifest,
        model_hash,
        read_manifest,
        write_manifest,
    )
    from latte_core.checkpoints.published import plain_preview, sd1_preview
    from latte_core.checkpoints.recognise import from_state_dict
    from latte_core.checkpoints.transformer import (
        load_transformer,
        save_transformer,
        to_diffusers_state,
    )

_HOMES = {
    "LATTE_1_DEFAULTS": "manifest",
    "Conversion": "conversion",
    "ConvertOptions": "conversion",
    "Defaults": "manifest",
    "Manifest": "manifest",
    "PreviewMap": "manifest",
    "build_manifest": "manifest",
    "TURBO_FOLDER": "folders",
    "check_layout": "folders",
    "convert": "conversion",
    "from_state_dict": "recognise",
    "initialise": "image_models",
    "load_transformer": "transformer",
    "model_hash": "manifest",
    "plain_preview": "published",
    "read_manifest": "manifest",
    "resolve_model": "folders",
    "save_transformer": "transformer",
    "sd1_preview": "published",
    "to_diffusers_state": "transformer",
    "verify_folder": "folders",
    "write_manifest": "manifest",
}

__all__ = [
    "LATTE_1_DEFAULTS",
    "TURBO_FOLDER",
    "Conversion",
    "ConvertOptions",
    "Defaults",
    "Manifest",
    "PreviewMap",
    "build_manifest",
    "check_layout",
    "convert",
    "from_state_dict",
    "initialise",
    "load_transformer",
    "model_hash",
    "plain_preview",
    "read_manifest",
    "resolve_model",
    "save_transformer",
    "sd1_preview",
    "to_diffusers_state",
    "verify_folder",
    "write_manifest",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
