"""Latte Studio's engine: prompts to short videos with Latte, the latent diffusion transformer.

    from latte_core import Engine, GenerationRequest

    engine = Engine.load("assets/latte-world")
    video = engine.generate(GenerationRequest(prompt="a red rocket flies up over the sea"))

This is the whole public API. Every name is imported when it is first used, so importing the
package costs nothing and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latte_core import checkpoints
    from latte_core.checkpoints import Defaults
    from latte_core.engine.engine import Engine
    from latte_core.engine.events import (
        Decoding,
        Encoded,
        EngineInfo,
        Event,
        Finished,
        Generation,
        Loading,
        Step,
        SteppedDown,
    )
    from latte_core.engine.inspection import BlockAttention, Inspected, Inspection
    from latte_core.engine.request import GenerationRequest
    from latte_core.engine.start_picture import load_picture
    from latte_core.engine.worker import Job
    from latte_core.errors import (
        Cancelled,
        CheckpointError,
        ConfigError,
        DataError,
        EngineBusyError,
        LatteError,
        MediaError,
        MemoryPlanError,
        NonFiniteError,
        RequestError,
        ShapeError,
    )
    from latte_core.media import (
        read_clip,
        read_recipe,
        write_clip,
        write_frames,
        write_gif,
        write_still,
        write_webp,
    )
    from latte_core.model import VARIANTS, BlockSpec, Latte, ModelConfig, preset

__version__ = "0.1.0"

__all__ = [
    "VARIANTS",
    "BlockAttention",
    "BlockSpec",
    "Cancelled",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Decoding",
    "Defaults",
    "Encoded",
    "Engine",
    "EngineBusyError",
    "EngineInfo",
    "Event",
    "Finished",
    "Generation",
    "GenerationRequest",
    "Inspected",
    "Inspection",
    "Job",
    "Latte",
    "LatteError",
    "Loading",
    "MediaError",
    "MemoryPlanError",
    "ModelConfig",
    "NonFiniteError",
    "RequestError",
    "ShapeError",
    "Step",
    "SteppedDown",
    "checkpoints",
    "load_picture",
    "preset",
    "read_clip",
    "read_recipe",
    "write_clip",
    "write_frames",
    "write_gif",
    "write_still",
    "write_webp",
]

# Module of every name; a name that is not listed here is the module latte_core.<name> itself.
_HOMES = {
    "latte_core.checkpoints": ("Defaults",),
    "latte_core.engine.engine": ("Engine",),
    "latte_core.engine.events": (
        "Decoding",
        "Encoded",
        "EngineInfo",
        "Event",
        "Finished",
        "Generation",
        "Loading",
        "Step",
        "SteppedDown",
    ),
    "latte_core.engine.inspection": ("BlockAttention", "Inspected", "Inspection"),
    "latte_core.engine.request": ("GenerationRequest",),
    "latte_core.engine.start_picture": ("load_picture",),
    "latte_core.engine.worker": ("Job",),
    "latte_core.errors": (
        "Cancelled",
        "CheckpointError",
        "ConfigError",
        "DataError",
        "EngineBusyError",
        "LatteError",
        "MediaError",
        "MemoryPlanError",
        "NonFiniteError",
        "RequestError",
        "ShapeError",
    ),
    "latte_core.media": (
        "read_clip",
        "read_recipe",
        "write_clip",
        "write_frames",
        "write_gif",
        "write_still",
        "write_webp",
    ),
    "latte_core.model": ("VARIANTS", "BlockSpec", "Latte", "ModelConfig", "preset"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _MODULE_OF:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
