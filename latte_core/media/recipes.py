"""The recipe inside a file: every setting that made it, as JSON.

mp4: a comment; PNG: a text chunk; WebP: an XMP packet; GIF: a comment block; ZIP: recipe.json;
JSON: the file itself.
"""

from __future__ import annotations

import html
import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

from latte_core.errors import MediaError

MP4_KEY = "comment"
PNG_KEY = "recipe"
ZIP_NAME = "recipe.json"
TITLE = "AI-generated with Latte Studio"
DAMAGED = "{name} cannot be read: it is damaged, or no {kind} file at all."
MAX_RECIPE_BYTES = 1 << 20  # ours are a kilobyte; a ZIP may claim anything

XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:latte="urn:latte-studio:recipe" latte:title="{title}"
 latte:recipe="{recipe}"/></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
XMP_RECIPE = re.compile(r'latte:recipe="([^"<]*)"')


def dump_recipe(recipe: dict[str, Any]) -> str:
    """A recipe as ASCII JSON. Raises MediaError if a value has no JSON form."""
    try:
        return json.dumps(recipe, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise MediaError(f"The recipe cannot be stored in a file: {error}.") from error


def make_xmp(recipe: str) -> bytes:
    """A recipe's JSON as an XMP packet."""
    return XMP.format(title=TITLE, recipe=html.escape(recipe)).encode("ascii")


def read_recipe(path: Path | str, kind: str = "") -> dict[str, Any]:
    """The recipe of an mp4, WebP, GIF, PNG, ZIP or JSON file that this project wrote.

    `kind` is the file's type (mp4, webp, ...) if its name does not end in it. Raises MediaError
    if the file is damaged, foreign or without a recipe.
    """
    from PIL import Image

    path = Path(path)
    kind = kind or path.suffix.lower().removeprefix(".")
    if kind not in _READERS:
        raise MediaError(
            f"{path.name} holds no recipe: only mp4, WebP, GIF, PNG, ZIP and JSON files do."
        )
    try:
        text = _READERS[kind](path)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise MediaError(f"{path.name} cannot be read: {error.strerror}.") from error
    # What PIL, PyAV and zipfile raise about damage; PIL also refuses huge pictures.
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise MediaError(DAMAGED.format(name=path.name, kind=kind)) from error
    except (zipfile.BadZipFile, KeyError, RuntimeError, Image.DecompressionBombError) as error:
        raise MediaError(DAMAGED.format(name=path.name, kind=kind)) from error
    return parse_recipe(text, path.name)


def parse_recipe(text: str | None, name: str) -> dict[str, Any]:
    """JSON text -> recipe. Raises MediaError if it is anything but one JSON object."""
    if not text:
        raise MediaError(f"{name} holds no recipe: it was made by another program.")
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError):
        recipe = None
    if not isinstance(recipe, dict):
        raise MediaError(f"{name} holds no recipe that can be read: it is damaged or foreign.")
    return recipe


def _mp4_text(path: Path) -> str | None:
    import av

    try:
        with av.open(str(path)) as container:
            return container.metadata.get(MP4_KEY)
    except av.FFmpegError as error:
        raise ValueError(str(error)) from error


def _png_text(path: Path) -> str | None:
    return _picture_info(path, "PNG").get(PNG_KEY)


def _webp_text(path: Path) -> str | None:
    packet = _picture_info(path, "WEBP").get("xmp", b"")
    found = XMP_RECIPE.search(packet.decode("utf-8", "replace"))
    return html.unescape(found[1]) if found else None


def _gif_text(path: Path) -> str | None:
    comment = _picture_info(path, "GIF").get("comment", b"")
    return comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)


def _picture_info(path: Path, kind: str) -> dict[str, Any]:
    """What a picture says of itself; its first frame is read whole, so that damage shows."""
    from PIL import Image

    with Image.open(path, formats=[kind]) as image:
        image.load()
        return {**image.info, **getattr(image, "text", {})}


def _zip_text(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        if ZIP_NAME not in archive.namelist():
            return None
        with archive.open(ZIP_NAME) as member:
            return member.read(MAX_RECIPE_BYTES).decode("utf-8", "replace")


def _json_text(path: Path) -> str | None:
    with path.open("rb") as file:
        return file.read(MAX_RECIPE_BYTES).decode("utf-8", "replace")


_READERS = {
    "mp4": _mp4_text,
    "png": _png_text,
    "webp": _webp_text,
    "gif": _gif_text,
    "zip": _zip_text,
    "json": _json_text,
}
