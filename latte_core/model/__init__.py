"""The network: one `Latte` class, described by values.

Read `latte.py` first. `config.py` holds the values and the presets, `layouts.py` the four
variants, and each of the other files one part: patches, positions, conditioning, attention, block.
"""

from latte_core.model.config import LATTE_1, ModelConfig, preset
from latte_core.model.latte import Latte, zero_init_temporal
from latte_core.model.layouts import VARIANTS, BlockSpec, layout

__all__ = [
    "LATTE_1",
    "VARIANTS",
    "BlockSpec",
    "Latte",
    "ModelConfig",
    "layout",
    "preset",
    "zero_init_temporal",
]
