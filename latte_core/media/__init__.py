"""Files: clips as H.264 mp4, stills as PNG, each with the recipe that made it inside.

A file is written under a temporary name, read back, and only then takes its final name, so a
full disk or a killed process never leaves half a file behind.
"""

from latte_core.media.clips import read_clip, write_clip
from latte_core.media.landing import check_target
from latte_core.media.recipes import read_recipe
from latte_core.media.stills import write_still

__all__ = ["check_target", "read_clip", "read_recipe", "write_clip", "write_still"]
