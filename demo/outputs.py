"""The finished files of this server: where they lie, and when they are swept away."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latte_core import Generation

PREFIX = "latte-studio-"
KEEP_S = 6 * 3600.0  # a clip stays as long as a page is likely to stay open
ABANDONED_S = 24 * 3600.0  # a folder that no server has touched for a day has no server


@dataclass(frozen=True)
class Saved:
    """The files of one finished job; image mode makes no clip."""

    clip: Path | None
    stills: tuple[Path, ...]


class Outputs:
    """One folder per server run; every job gets its own unguessable subfolder of it."""

    def __init__(self, parent: Path | None = None) -> None:
        base = parent or Path(tempfile.gettempdir())
        _sweep(base, PREFIX + "*", ABANDONED_S)
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base)).resolve()

    def save(self, generation: Generation, mode: str) -> Saved:
        """Write the clip and the stills. Raises MediaError when the disk refuses."""
        return write_files(self.new_folder(), generation, mode)

    def new_folder(self) -> Path:
        """An empty folder for the files of one job; old ones are removed on the way.

        Its name holds 128 random bits, since whoever knows the address may fetch the files.
        Raises MediaError when the disk refuses.
        """
        _sweep(self.root, "*", KEEP_S)
        folder = self.root / secrets.token_hex(16)
        with refuses(self.root):
            folder.mkdir(parents=True)
        return folder

    def remove(self) -> None:
        """Delete everything; the server is going down."""
        shutil.rmtree(self.root, ignore_errors=True)


def write_files(folder: Path, generation: Generation, mode: str) -> Saved:
    """Write clip and stills into `folder`. Raises MediaError when the disk refuses."""
    from latte_core import write_clip, write_still

    recipe, name = generation.recipe, f"latte-{generation.seed}"
    clip = None
    if mode != "image":
        clip = write_clip(generation.frames, folder / f"{name}.mp4", generation.fps, recipe)
    stills = tuple(
        write_still(still, folder / f"{name}-still-{number}.png", recipe)
        for number, still in enumerate(generation.stills, start=1)
    )
    return Saved(clip, stills)


@contextmanager
def refuses(root: Path) -> Iterator[None]:
    """Turn what the disk says inside the block into a MediaError with a remedy."""
    from latte_core import MediaError

    try:
        yield
    except OSError as error:
        raise MediaError(
            f"No folder for the film could be made in {root.parent} ({error.strerror}). "
            "Free some space there, or choose another disk with --history or TMPDIR, and try again."
        ) from error


def _sweep(parent: Path, pattern: str, older_than_s: float) -> None:
    """Remove the folders below `parent` that were last written that long ago."""
    now = time.time()
    for folder in parent.glob(pattern):
        try:
            old = folder.is_dir() and now - folder.stat().st_mtime > older_than_s
        except OSError:  # gone meanwhile: another server swept it
            continue
        if old:
            shutil.rmtree(folder, ignore_errors=True)
