"""Clips as animated WebP and GIF, and as a ZIP of PNG frames, each with its recipe inside."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latte_core.errors import MediaError
from latte_core.media.clips import check_frames
from latte_core.media.landing import landing
from latte_core.media.recipes import TITLE, ZIP_NAME, dump_recipe, make_xmp, read_recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

WEBP_QUALITY = 88  # no visible loss on our clips, a third of the lossless size
PALETTE_PIXELS = 1 << 18  # enough for 256 colours; more only takes longer
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # ZIP's first date, so that the same clip gives the same bytes


def write_webp(
    frames: NDArray[np.uint8], path: Path | str, fps: int, recipe: dict[str, Any]
) -> Path:
    """Write uint8 frames (F, H, W, 3) as an endless animated WebP with `recipe` in its XMP.

    Returns the path. Raises MediaError, leaving nothing behind, as `write_clip` does.
    """
    check_frames(frames, fps)
    options = {
        "quality": WEBP_QUALITY,
        "method": 4,
        "xmp": make_xmp(dump_recipe(recipe)),
    }
    with landing(Path(path), ".webp") as partial:
        _animate(_images(frames), partial, "WEBP", fps, options)
        _verify(partial, "WEBP", frames, recipe)
    return Path(path)


def write_gif(
    frames: NDArray[np.uint8], path: Path | str, fps: int, recipe: dict[str, Any]
) -> Path:
    """Write uint8 frames (F, H, W, 3) as an endless GIF with `recipe` in its comment.

    All frames share one palette of 256 colours, which spares flicker and time. Returns the path;
    raises MediaError, leaving nothing behind, as `write_clip` does.
    """
    check_frames(frames, fps)
    options = {"comment": dump_recipe(recipe).encode("ascii")}
    palette = _palette(frames)
    images = [image.quantize(palette=palette) for image in _images(frames)]
    with landing(Path(path), ".gif") as partial:
        _animate(images, partial, "GIF", fps, options)
        _verify(partial, "GIF", frames, recipe)
    return Path(path)


def write_frames(frames: NDArray[np.uint8], path: Path | str, recipe: dict[str, Any]) -> Path:
    """Write uint8 frames (F, H, W, 3) as a ZIP of numbered PNGs and a recipe.json.

    Returns the path; raises MediaError, leaving nothing behind, as `write_clip` does.
    """
    path = Path(path)
    check_frames(frames, fps=1)
    text = json.dumps(json.loads(dump_recipe(recipe)), indent=2, sort_keys=True)
    with landing(path, ".zip") as partial:
        with zipfile.ZipFile(partial, "w") as archive:
            for number, image in enumerate(_images(frames), start=1):
                png = io.BytesIO()
                image.save(png, format="PNG")
                archive.writestr(_member(f"frame-{number:04d}.png"), png.getvalue())
            archive.writestr(_member(ZIP_NAME), text + "\n")
            archive.comment = TITLE.encode("ascii")
        with zipfile.ZipFile(partial) as written:
            if written.testzip() or len(written.namelist()) != len(frames) + 1:
                raise MediaError(f"{path.name} did not read back as written: try again.")
    return path


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, ZIP_TIME)


def _images(frames: NDArray[np.uint8]) -> list[Image]:
    from PIL import Image

    return [Image.fromarray(frame) for frame in frames]


def _animate(images: list[Image], path: Path, kind: str, fps: int, options: dict[str, Any]) -> None:
    """Write pictures as one endless animation."""
    first, *rest = images
    first.save(
        path,
        format=kind,
        save_all=True,
        append_images=rest,
        duration=round(1000 / fps),
        loop=0,
        **options,
    )


def _palette(frames: NDArray[np.uint8]) -> Image:
    """256 colours for all frames, from every n-th pixel of them."""
    from PIL import Image

    pixels = frames.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // PALETTE_PIXELS)]
    return Image.fromarray(pixels[None]).quantize(256, method=Image.Quantize.MEDIANCUT)


def _verify(path: Path, kind: str, frames: NDArray[np.uint8], recipe: dict[str, Any]) -> None:
    """Compare size, number of frames and recipe with what was meant.

    Both formats show equal neighbours as one longer frame, so fewer frames than written are right
    where neighbours are equal.
    """
    from PIL import Image

    with Image.open(path, formats=[kind]) as image:
        size, count = image.size, getattr(image, "n_frames", 1)
        for index in range(count):
            image.seek(index)
            image.load()
    changes = sum(not np.array_equal(a, b) for a, b in itertools.pairwise(frames))
    fewest = 1 if kind == "GIF" else 1 + changes
    if size != (frames.shape[2], frames.shape[1]) or not fewest <= count <= len(frames):
        raise MediaError(
            f"The clip did not read back as written ({count} of {len(frames)} frames): free some "
            "disk space and try again."
        )
    if read_recipe(path, kind.lower()) != json.loads(dump_recipe(recipe)):
        raise MediaError("The recipe did not read back as written: try again.")
