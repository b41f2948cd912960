"""Pictures to squares, and folders of pictures as clips."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latte_core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


def to_square(image: Image, size: int, pixel_aspect: float = 1.0) -> NDArray[np.uint8]:
    """Crop the middle square of an RGB picture and scale it, antialiased: uint8 (size, size, 3).

    pixel_aspect is a pixel's width over its height; the square is one on the screen. A picture
    that has the wanted size is left as it is.
    """
    from PIL.Image import Resampling

    width, height = image.width * pixel_aspect, float(image.height)
    side = min(width, height)
    if pixel_aspect == 1.0:  # whole pixels, so that a crop alone stays exact
        left, top = float(round((width - side) / 2)), float(round((height - side) / 2))
    else:
        left, top = (width - side) / 2 / pixel_aspect, (height - side) / 2
    box = (left, top, left + side / pixel_aspect, top + side)
    if image.size != (size, size) or pixel_aspect != 1.0:
        image = image.resize((size, size), Resampling.BICUBIC, box=box)
    return np.asarray(image, dtype=np.uint8)


def frame_order(name: str) -> tuple[int, str]:
    """Sort key of a frame's file name: its trailing number, then the name."""
    numbers = re.findall(r"\d+", Path(name).stem)
    return (int(numbers[-1]) if numbers else -1, name)


@dataclass(frozen=True)
class FrameFolder:
    """A clip that lies on disk as a folder of pictures, `names` in the order of time."""

    path: Path
    names: tuple[str, ...]
    width: int
    height: int
    rate: float | None = None

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.names)

    def read(self, numbers: Sequence[int], size: int) -> NDArray[np.uint8]:
        """The frames of these numbers as uint8 squares (F, size, size, 3).

        Raises DataError, naming the file, if one cannot be read.
        """
        return np.stack([self._frame(self.path / self.names[n], size) for n in numbers])

    def _frame(self, path: Path, size: int) -> NDArray[np.uint8]:
        from PIL import ImageOps

        with open_picture(path) as image:
            try:
                upright = ImageOps.exif_transpose(image)
                return to_square(upright.convert("RGB"), size)
            except (OSError, ValueError, SyntaxError) as error:  # PIL reports damage as all three
                raise DataError(f"the picture {path.name} is damaged ({error})") from error


def open_picture(path: Path) -> Any:
    """Open a picture, reading its header only. Raises DataError if it is none."""
    from PIL import Image

    try:
        if not path.stat().st_size:
            raise DataError(f"the picture {path.name} is empty (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the picture {path.name} cannot be read ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """Why, without the path that the caller names itself."""
    text = getattr(error, "strerror", None) or str(error)
    return "it is no picture" if "cannot identify image" in text else text


def probe_frames(path: Path, names: Sequence[str]) -> FrameFolder:
    """Look at a folder of frames: the first one's header. Raises DataError if it is unreadable."""
    ordered = tuple(sorted(names, key=frame_order))
    with open_picture(path / ordered[0]) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientation, on its side
        width, height = image.size[::-1] if turned else image.size
    return FrameFolder(path, ordered, width, height)
