"""The picture that a clip begins with: read from a file, kept in the request, given to the engine.

A request carries it as a data URL (`data:image/png;base64,...`) at the clip's size, so a recipe is
whole without the file, and a browser shows it as it is. Pictures of up to 128 x 128 are kept
without loss as a rule; larger ones as WebP, at the best quality that fits into MAX_CHARS.
"""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latte_core.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

FIELD = "first_frame"
KINDS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
NAMES = "PNG, JPEG or WebP"
MAX_CHARS = 131_072  # of a data URL; a recipe may be 1 MiB, and an mp4's comment holds it
MAX_FILE_BYTES = 32 * 2**20
MAX_PIXELS = 64 * 10**6  # of a file; the largest phone cameras stay below
QUALITIES = (95, 90, 80, 70, 60, 50)  # of WebP, the best that fits
SIDES = (1024, 768, 512, 384, 256)  # of a picture that keeps its proportions; a clip's limit first
REMEDY = f"take a {NAMES} picture"


def load_picture(
    source: str | Path | Image.Image, height: int | None = None, width: int | None = None
) -> str:
    """Make a picture, its file or its data URL fit a clip: `GenerationRequest.first_frame`.

    Turned as its camera says, cut to the clip's proportions around its middle, scaled; see-through
    parts become white. Without a size it keeps its proportions and is as large as a request can
    carry. A data URL of the right size stays as it is.
    Raises RequestError for a file that is missing, too large or no picture.
    """
    if isinstance(source, str) and source.startswith("data:"):
        picture = from_data_url(source)
        if picture.size == (width, height):
            return source
    elif isinstance(source, str | Path):
        picture = read_picture(source)
    else:
        picture = source.convert("RGB")
    if height is None or width is None:
        return _largest(picture)
    return to_data_url(fit(picture, height, width))


def read_picture(path: str | Path) -> Image.Image:
    """A picture file as an RGB picture. Raises RequestError as `load_picture` does."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise RequestError(
                FIELD,
                f"first_frame {path.name} has {size / 2**20:.0f} MiB, the limit is "
                f"{MAX_FILE_BYTES // 2**20}: take a smaller picture.",
            )
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(
            FIELD, f"first_frame {path.name} cannot be read ({error.strerror}): {REMEDY}."
        ) from error
    return _decode(data, path.name)


def to_data_url(picture: Image.Image) -> str:
    """A picture as a data URL of at most MAX_CHARS, without loss where that fits."""
    attempts: list[tuple[str, dict[str, Any]]] = [
        ("PNG", {"optimize": True}),
        ("WEBP", {"lossless": True}),
        *(("WEBP", {"quality": quality}) for quality in QUALITIES),
    ]
    for kind, options in attempts:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        url = f"data:{KINDS[kind]};base64,{base64.b64encode(buffer.getvalue()).decode()}"
        if len(url) <= MAX_CHARS:
            return url
    raise RequestError(
        FIELD,
        f"first_frame of {picture.width} x {picture.height} does not fit into {MAX_CHARS:,} "
        "characters: take a smaller size.",
    )


def _largest(picture: Image.Image) -> str:
    """The data URL of a picture in its own proportions, at the largest of SIDES that fits."""
    for side in SIDES:
        scale = min(1.0, side / max(picture.size))
        width, height = (max(1, round(scale * pixels)) for pixels in picture.size)
        try:
            return to_data_url(fit(picture, height, width))
        except RequestError:
            if side == SIDES[-1]:
                raise
    raise AssertionError("SIDES is empty")


def check_picture(value: Any) -> str:
    """A data URL that holds a picture. Raises RequestError for anything else."""
    if not isinstance(value, str):
        raise RequestError(
            FIELD, f"first_frame must be text, a data URL, not a {type(value).__name__}."
        )
    if len(value) > MAX_CHARS:
        raise RequestError(
            FIELD,
            f"first_frame has {len(value):,} characters, the limit is {MAX_CHARS:,}: make it with "
            "load_picture, at the clip's size.",
        )
    from_data_url(value)
    return value


def from_data_url(url: str) -> Image.Image:
    """The RGB picture of a data URL. Raises RequestError if there is none."""
    start, comma, data = url.partition(",")
    if not comma or start not in {f"data:{kind};base64" for kind in KINDS.values()}:
        raise RequestError(
            FIELD,
            f"first_frame is {url[:40]!r}, but must be a data URL of a {NAMES} picture "
            "(data:image/png;base64,...): make it with load_picture.",
        )
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            FIELD, "first_frame is a damaged data URL: make it anew with load_picture."
        ) from error
    return _decode(content, "the data URL")


def picture_pixels(url: str, height: int, width: int) -> NDArray[np.uint8]:
    """The picture of a data URL at a clip's size: uint8 (H, W, 3)."""
    import numpy as np

    return np.asarray(fit(from_data_url(url), height, width))


def fit(picture: Image.Image, height: int, width: int) -> Image.Image:
    """Cut a picture to these proportions around its middle and scale it."""
    from PIL import Image, ImageOps

    if picture.size == (width, height):
        return picture
    return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)


def _decode(content: bytes, name: str) -> Image.Image:
    """A picture from the bytes of a file, read whole, upright and in RGB."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content), formats=list(KINDS)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise RequestError(
                    FIELD,
                    f"first_frame {name} has {picture.width} x {picture.height} pixels, the limit "
                    f"is {MAX_PIXELS // 10**6} million: take a smaller picture.",
                )
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise RequestError(
            FIELD, f"first_frame {name} is no picture that can be read: {REMEDY}."
        ) from error
    white = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(white, upright).convert("RGB")
