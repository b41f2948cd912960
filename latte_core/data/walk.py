"""Find clips below a folder: video files, and folders of pictures.

A folder that holds videos is searched for videos only, so that a cover picture beside them is no
clip. Links are followed, no folder is visited twice, and hidden names are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latte_core.data.pictures import PICTURES
from latte_core.data.video_file import VIDEOS
from latte_core.errors import DataError

ProblemKind = Literal["broken", "short", "caption", "missing"]


@dataclass(frozen=True)
class Problem:
    """Something that was left out or looks wrong: its name below the root, and why.

    kind: "broken" (unreadable), "short" (too few frames), "missing" (listed, but not there) or
    "caption" (a caption that cannot be used).
    """

    key: str
    kind: ProblemKind
    reason: str


@dataclass(frozen=True)
class Candidate:
    """A clip on disk, not yet looked into: `names` are the frames if it is a folder of them."""

    key: str
    path: Path
    names: tuple[str, ...] = ()
    label: int | None = None


def find_candidates(top: Path, root: Path) -> Iterator[Candidate | Problem]:
    """Every clip at and below `top`, in the order of names; keys are paths below `root`.

    Raises DataError if `top` is no folder that can be read.
    """
    if not top.is_dir():
        raise DataError(f"{top} is no folder: give the folder of the data set.")
    yield from _visit(top, root, set())


def key_of(path: Path, root: Path) -> str:
    """A clip's name: its path below the root, with forward slashes."""
    return path.relative_to(root).as_posix()


def _visit(folder: Path, root: Path, seen: set[tuple[int, int]]) -> Iterator[Candidate | Problem]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Problem(
            key_of(folder, root), "broken", f"the folder cannot be read ({error.strerror})"
        )
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    folders = [entry.name for entry in entries if _is_folder(entry)]
    files = sorted({entry.name for entry in entries} - set(folders))
    videos = [name for name in files if Path(name).suffix.lower() in VIDEOS]
    frames = [name for name in files if Path(name).suffix.lower() in PICTURES]
    for name in videos:
        path = folder / name
        if path.exists():
            yield Candidate(key_of(path, root), path)
        else:
            yield Problem(key_of(path, root), "broken", "the link leads nowhere")
    if frames and not videos:
        yield Candidate(key_of(folder, root), folder, tuple(frames))
    for name in folders:
        yield from _visit(folder / name, root, seen)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
