"""Our own routes beside Gradio's, all below /studio/: files of runs, and recipes read from files.

GIF, WebP, ZIP and the strip of frames are made when they are first asked for, and kept with the
run. A run is served to its visitor only (history.py). A dropped file is read and forgotten.
"""

from __future__ import annotations

import mimetypes
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, Router

from demo.history import THUMBNAIL, Entry, History
from demo.pairs import write_pair
from demo.strings import Texts
from demo.visitors import owner_of
from latte_core import LatteError, load_picture

if TYPE_CHECKING:
    import numpy as np

MAX_DROP_BYTES = 64 << 20  # Latte-1's largest clip as a ZIP of PNGs is about 20 MB
SHEET_COLUMNS = 8  # frames in a row of the PNG
PAIR_FILES = ("compare.mp4", "slices.png", "compare.csv")
STRANGE = re.compile(r"[^\w.\- ]")  # in a file's name
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}  # a run never changes


class Files:
    """The routes of one page server."""

    def __init__(self, history: History, texts: Texts) -> None:
        self._history = history
        self._texts = texts
        self._making = threading.Lock()

    def router(self) -> Router:
        """An ASGI app that answers below /studio/."""
        return Router(
            [
                Route("/studio/run/{key}/{name}", self._send_file, methods=["GET"]),
                Route("/studio/compare/{a}/{b}/{name}", self._send_pair, methods=["GET"]),
                Route("/studio/recipe", self._read_drop, methods=["POST"]),
                Route("/studio/picture", self._read_picture, methods=["POST"]),
            ]
        )

    async def _send_file(self, request: Request) -> Response:
        key, name = request.path_params["key"], request.path_params["name"]
        entry = self._history.get(key, owner_of(request))
        if entry is None:
            return _refuse(404, self._texts("files.gone"))
        try:
            path = await run_in_threadpool(self._find, entry, name)
        except LatteError as error:
            return _refuse(500, str(error))
        if path is None:
            return _refuse(404, self._texts("files.gone"))
        return FileResponse(path, headers=FOREVER)

    async def _send_pair(self, request: Request) -> Response:
        """Two runs as one file, made for this answer."""
        owner, name = owner_of(request), request.path_params["name"]
        a, b = (self._history.get(request.path_params[side], owner) for side in "ab")
        if a is None or b is None or not a.clip or not b.clip or name not in PAIR_FILES:
            return _refuse(404, self._texts("files.gone"))
        with tempfile.TemporaryDirectory(prefix="latte-pair-") as folder:
            path = Path(folder) / name
            try:
                column = _share(request.query_params.get("x", "0.5"))
                await run_in_threadpool(write_pair, a, b, path, column)
            except LatteError as error:
                return _refuse(500, str(error))
            kind = mimetypes.guess_type(name)[0]
            return Response(path.read_bytes(), media_type=kind)

    def _find(self, entry: Entry, name: str) -> Path | None:
        """A file of a run, made now if it is of a kind that is made on demand."""
        there = (entry.clip, *entry.stills, entry.thumbnail)
        if name in [path.name for path in there if path]:
            return entry.folder / name
        kinds = {made: kind for kind, made in export_names(entry).items()}
        if name not in kinds or name == THUMBNAIL:
            return None
        path = entry.folder / name
        with self._making:
            if not path.is_file():
                _export(entry, path, kinds[name])
        return path

    async def _read_drop(self, request: Request) -> Response:
        """The recipe of the file in the body, or a sentence that says why there is none."""
        return await self._read_body(request, "recipe", _read)

    async def _read_picture(self, request: Request) -> Response:
        """The picture in the body as the data URL that a request carries."""
        return await self._read_body(request, "picture", load_picture)

    async def _read_body(
        self, request: Request, what: str, read: Callable[[Path], Any]
    ) -> Response:
        """What `read` makes of the file in the body, as JSON under `what`; or a sentence."""
        name = _plain_name(request.query_params.get("name", ""))
        try:
            with tempfile.TemporaryDirectory(prefix="latte-drop-") as folder:
                path = Path(folder) / name
                await _store(request, path, self._texts("files.large", limit=MAX_DROP_BYTES >> 20))
                found = await run_in_threadpool(read, path)
        except LatteError as error:
            return _refuse(422, str(error))
        except HTTPException as refusal:
            return _refuse(refusal.status_code, refusal.detail)
        return JSONResponse({what: found})


def export_names(entry: Entry) -> dict[str, str]:
    """The names of the files that are made on demand, by kind; none without a clip."""
    if entry.clip is None:
        return {}
    stem = entry.clip.stem
    return {
        "gif": f"{stem}.gif",
        "webp": f"{stem}.webp",
        "zip": f"{stem}-frames.zip",
        "png": f"{stem}-frames.png",
    }


def _export(entry: Entry, path: Path, kind: str) -> None:
    from latte_core import read_clip, write_frames, write_gif, write_still, write_webp

    assert entry.clip is not None
    frames = read_clip(entry.clip)
    write: dict[str, Callable[[], Any]] = {
        "gif": lambda: write_gif(frames, path, entry.fps, entry.recipe),
        "webp": lambda: write_webp(frames, path, entry.fps, entry.recipe),
        "zip": lambda: write_frames(frames, path, entry.recipe),
        "png": lambda: write_still(lay_out(frames), path, entry.recipe),
    }
    write[kind]()


def lay_out(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (F, H, W, 3) side by side in rows: (rows*H, columns*W, 3)."""
    import numpy as np

    columns = min(SHEET_COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    missing = rows * columns - len(frames)
    sheet = np.concatenate([frames, np.zeros_like(frames[:1]).repeat(missing, axis=0)])
    sheet = sheet.reshape(rows, columns, *frames.shape[1:]).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(sheet.reshape(rows * frames.shape[1], -1, 3))


def _read(path: Path) -> dict[str, Any]:
    from latte_core import read_recipe

    return read_recipe(path)


async def _store(request: Request, path: Path, too_large: str) -> None:
    """Write the body to `path`. Raises HTTPException 413 when there is too much of it."""
    size = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_DROP_BYTES:
                raise HTTPException(413, too_large)
            file.write(chunk)


def _share(text: str) -> float:
    """A number from 0 to 1; the middle for anything else."""
    try:
        share = float(text)
    except ValueError:
        return 0.5
    return share if 0 <= share <= 1 else 0.5


def _plain_name(name: str) -> str:
    """A file's name without what could lead elsewhere; its ending stays."""
    return STRANGE.sub("_", Path(name).name)[-80:].strip(". ") or "file"


def _refuse(status: int, sentence: str) -> Response:
    return JSONResponse({"detail": sentence}, status_code=status)
