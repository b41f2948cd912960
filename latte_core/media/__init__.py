"""Files: clips as mp4, WebP, GIF or ZIP, stills as PNG, each with its recipe inside.

A file is written under a temporary name, read back, and only then takes its final name, so a
full disk or a killed process never leaves half a file behind.
"""

from latte_core.media.animations import write_frames, write_gif, write_webp
from latte_core.media.clips import read_clip, write_clip
from latte_core.media.landing import check_target
from latte_core.media.recipes import read_recipe
from latte_core.media.stills import write_still

__all__ = [
    "check_target",
    "read_clip",
    "read_recipe",
    "write_clip",
    "write_frames",
    "write_gif",
    "write_still",
    "write_webp",
]
