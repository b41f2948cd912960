"""Finished runs, kept on disk: they survive restarts, and each has a thumbnail that moves.

A run is a folder `<root>/<key>` with its files, a thumbnail and `entry.json`. It is written under
another name and lands by one rename, so it is there whole or not at all, and two servers may share
a root. Where many people use one server, a run belongs to the visitor who made it, and nobody else
gets to see it, until its maker shares it: then whoever has its key may, but not delete it.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.outputs import refuses, write_files

if TYPE_CHECKING:
    import numpy as np

    from latte_core import Generation

log = logging.getLogger(__name__)

SIDECAR = "entry.json"
THUMBNAIL = "thumbnail.webp"
SHARED = "shared"  # an empty file in the folder of a run that others may see
THUMBNAIL_SIDE = 160  # pixels; a card on the page is as wide
KEY = re.compile(r"[0-9a-f]{32}")
LEFTOVER_S = 3600.0  # a folder that is still not finished after an hour was left by a crash


@dataclass(frozen=True)
class Entry:
    """One finished run. `stills` is all that image mode makes; then `clip` is None.

    `recipe` makes the same pictures again; `frames`, `width` and `height` are the clip's, or the
    first still's; `timings` are seconds by stage, `memory_gib` the device's memory before, at its
    peak and after; `created` is in seconds since 1970.
    """

    key: str
    folder: Path
    created: float
    recipe: dict[str, Any]
    clip: Path | None
    stills: tuple[Path, ...]
    fps: int
    frames: int
    width: int
    height: int
    timings: dict[str, float] = field(default_factory=dict)
    memory_gib: dict[str, float] = field(default_factory=dict)
    owner: str = ""

    @property
    def thumbnail(self) -> Path:
        """A small picture of it, animated if it is a clip."""
        return self.folder / THUMBNAIL

    def url(self, name: str) -> str:
        """The address of one of its files, relative to the page; see files.py."""
        return f"studio/run/{self.key}/{name}"


@dataclass(frozen=True)
class Limits:
    """How much is kept; the oldest run goes first."""

    entries: int = 200
    entries_per_owner: int = 60
    total_bytes: int = 2 << 30


class History:
    """The finished runs below one folder. `private` gives every visitor their own."""

    def __init__(self, root: Path, private: bool = False, limits: Limits | None = None) -> None:
        self.root = root
        self.private = private
        self._limits = limits or Limits()
        self._lock = threading.RLock()
        self._known: dict[str, Entry] = {}
        self._seen = -1  # the root's time of change when it was last read
        with refuses(root):
            root.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def add(self, generation: Generation, mode: str, owner: str) -> Entry:
        """Keep a finished run. Raises MediaError when the disk refuses."""
        key = secrets.token_hex(16)
        working = self.root / f".{key}.working"
        try:
            with refuses(self.root):
                working.mkdir()
                _write_run(working, generation, mode, owner if self.private else "")
                working.replace(self.root / key)
        finally:
            shutil.rmtree(working, ignore_errors=True)
        entry = _read_entry(self.root / key)
        with self._lock:
            self._known[key] = entry
            self._keep_bounds(entry.owner)
        return entry

    def entries(self, owner: str) -> list[Entry]:
        """The runs of a visitor, newest first."""
        with self._lock:
            self._refresh()
            own = [entry for entry in self._known.values() if self._belongs(entry, owner)]
        return sorted(own, key=lambda entry: entry.created, reverse=True)

    def get(self, key: str, owner: str) -> Entry | None:
        """One run; None if there is none, or if it is another visitor's who has not shared it."""
        entry = self._find(key)
        if entry is None or self._belongs(entry, owner):
            return entry
        return entry if (entry.folder / SHARED).is_file() else None

    def share(self, key: str, owner: str) -> bool:
        """Let others see a run, who know its key; False if the visitor has no such run.

        Raises MediaError when the disk refuses.
        """
        entry = self._own(key, owner)
        if entry is None:
            return False
        with refuses(self.root):
            (entry.folder / SHARED).touch()
        return True

    def _own(self, key: str, owner: str) -> Entry | None:
        entry = self._find(key)
        return entry if entry and self._belongs(entry, owner) else None

    def _find(self, key: str) -> Entry | None:
        if not isinstance(key, str) or not KEY.fullmatch(key):
            return None
        with self._lock:
            self._refresh()
            return self._known.get(key)

    def delete(self, key: str, owner: str) -> bool:
        """Remove one run with its files; False if the visitor has no such run."""
        entry = self._own(key, owner)
        if entry is None:
            return False
        with self._lock:
            self._drop(entry)
        return True

    def _belongs(self, entry: Entry, owner: str) -> bool:
        return not self.private or (bool(owner) and entry.owner == owner)

    def _refresh(self) -> None:
        """Read the folder again if another server has changed it."""
        changed = self.root.stat().st_mtime_ns if self.root.is_dir() else 0
        if changed == self._seen:
            return
        folders = {path.name: path for path in self.root.glob("*") if KEY.fullmatch(path.name)}
        for gone in self._known.keys() - folders.keys():
            del self._known[gone]
        for key in folders.keys() - self._known.keys():
            try:
                self._known[key] = _read_entry(folders[key])
            except (OSError, ValueError, TypeError, KeyError) as error:
                log.warning("The run in %s cannot be read and is left out: %s", key, error)
        self._seen = changed

    def _keep_bounds(self, owner: str) -> None:
        """Drop the oldest runs until what is left is within the limits."""
        self._refresh()
        everyone = sorted(self._known.values(), key=lambda entry: entry.created, reverse=True)
        own = [entry for entry in everyone if entry.owner == owner]
        surplus = set(map(_key_of, everyone[self._limits.entries :]))
        if self.private:
            surplus |= set(map(_key_of, own[self._limits.entries_per_owner :]))
        room = self._limits.total_bytes
        for position, entry in enumerate(everyone):
            room -= _size(entry.folder)
            if room < 0 and position:  # the newest stays, however large
                surplus.add(entry.key)
        for key in surplus:
            self._drop(self._known[key])

    def _drop(self, entry: Entry) -> None:
        """Take a run out of sight by one rename, then delete its files."""
        self._known.pop(entry.key, None)
        gone = self.root / f".{entry.key}.gone"
        try:
            entry.folder.rename(gone)
        except FileNotFoundError:  # another server was faster
            return
        shutil.rmtree(gone, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed servers left half-written or half-deleted."""
        for path in self.root.glob(".*"):
            try:
                left = path.suffix == ".gone" or time.time() - path.stat().st_mtime > LEFTOVER_S
            except OSError:
                continue
            if left and path.suffix in (".gone", ".working"):
                shutil.rmtree(path, ignore_errors=True)


def _key_of(entry: Entry) -> str:
    return entry.key


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def _write_run(folder: Path, generation: Generation, mode: str, owner: str) -> None:
    """Write the files of a run and, last, what is known about it."""
    from latte_core import write_webp

    saved = write_files(folder, generation, mode)
    frames = generation.frames if saved.clip else generation.frames[:1]
    write_webp(_small(frames), folder / THUMBNAIL, generation.fps, generation.recipe)
    count, height, width, _ = frames.shape
    known = {
        "created": time.time(),
        "recipe": generation.recipe,
        "clip": saved.clip.name if saved.clip else None,
        "stills": [path.name for path in saved.stills],
        "fps": generation.fps,
        "frames": count,
        "width": width,
        "height": height,
        "timings": generation.timings,
        "memory_gib": generation.memory_gib,
        "owner": owner,
    }
    (folder / SIDECAR).write_text(json.dumps(known, indent=1), encoding="utf-8")


def _small(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (F, H, W, 3), every n-th pixel of them, no side longer than a thumbnail's."""
    stride = -(-max(frames.shape[1:3]) // THUMBNAIL_SIDE)
    return frames[:, ::stride, ::stride]


def _read_entry(folder: Path) -> Entry:
    """What the sidecar says. Raises OSError, ValueError, TypeError or KeyError if it is damaged."""
    known = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
    return Entry(
        key=folder.name,
        folder=folder,
        created=float(known["created"]),
        recipe=dict(known["recipe"]),
        clip=_inside(folder, known["clip"]) if known["clip"] else None,
        stills=tuple(_inside(folder, name) for name in known["stills"]),
        fps=int(known["fps"]),
        frames=int(known["frames"]),
        width=int(known["width"]),
        height=int(known["height"]),
        timings=_numbers(known["timings"]),
        memory_gib=_numbers(known["memory_gib"]),
        owner=str(known["owner"]),
    )


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def _inside(folder: Path, name: str) -> Path:
    """A file of this folder. Raises ValueError for a name that leads elsewhere or nowhere."""
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise ValueError(f"{name} is not in the folder")
    return path
