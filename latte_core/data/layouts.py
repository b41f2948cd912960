"""Where each published data set keeps its clips, its splits and its labels.

FaceForensics, SkyTimelapse and Taichi-HD are trees of videos or of folders of frames below a
folder for each split (`train`, `sky_train`). UCF101 is a folder for each class, divided by the
official lists of `ucfTrainTestlist`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from latte_core.data.source import VideoSource
from latte_core.data.walk import Candidate, Problem, find_candidates
from latte_core.errors import DataError

UCF_CLASSES = 101
CLASS_LIST = "classInd.txt"
# A split's folder, by the names that publications and their mirrors use.
_SPLIT_NAMES = {
    "train": ("train", "sky_train", "training"),
    "test": ("test", "sky_test", "testing"),
}
_UCF_FOLDERS = ("UCF-101", "UCF101", "videos", ".")
_LIST_FOLDERS = ("ucfTrainTestlist", "UCF101TrainTestSplits-RecognitionTask", ".", "..")


@dataclass
class Found:
    """What lies in a data set's folder before any file is looked into."""

    candidates: list[Candidate] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def add(self, found: Iterator[Candidate | Problem]) -> None:
        """Sort what a search gives into clips and problems."""
        for one in found:
            if isinstance(one, Candidate):
                self.candidates.append(one)
            else:
                self.problems.append(one)


def find_clips(source: VideoSource) -> Found:
    """List the clips of a data set's split. Raises DataError if its folders are not there."""
    root = source.root
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"The data set's folder {root} {what}.")
    return LAYOUTS[source.kind](source)


def _find_folder(source: VideoSource) -> Found:
    found = Found()
    found.add(find_candidates(source.root, source.root))
    return found


def _find_splits(source: VideoSource) -> Found:
    """Clips of the split's folder; a root without split folders is taken for the split itself."""
    found = Found()
    splits = _split_folders(source.root)
    if source.split == "all" or not splits:
        if not splits:
            found.notes.append(f"{source.root} has no split folders: all of it is read.")
        found.add(find_candidates(source.root, source.root))
        return found
    if source.split not in splits:
        raise DataError(
            f"{source.root} has no folder for the split {source.split!r}, only "
            f"{', '.join(path.name for path in splits.values())}: choose another split, or all."
        )
    found.add(find_candidates(splits[source.split], source.root))
    return found


def _split_folders(root: Path) -> dict[str, Path]:
    """The split folders of a root, also one level down (`sky_timelapse/sky_train`)."""
    for parent in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        folders = {
            split: parent / name
            for split, names in _SPLIT_NAMES.items()
            for name in reversed(names)
            if (parent / name).is_dir()
        }
        if folders:
            return folders
    return {}


def _find_ucf101(source: VideoSource) -> Found:
    """Class folders; labels are the places of the classes in the alphabet, from 0."""
    videos = _ucf_folder(source.root)
    lists = _list_folder(source.root, videos)
    found = Found()
    names = sorted(path.name for path in videos.iterdir() if path.is_dir() and _is_class(path))
    if not names:
        raise DataError(
            f"{videos} has no class folders such as ApplyEyeMakeup with videos in them: give the "
            "folder that UCF101.rar unpacks to."
        )
    found.classes = _ucf_classes(lists, names, found)
    numbers = {name: number for number, name in enumerate(found.classes)}
    for name in names:
        if name not in numbers:
            found.problems.append(Problem(name, "broken", f"the class is not in {CLASS_LIST}"))
            continue
        part = Found()
        part.add(find_candidates(videos / name, source.root))
        found.candidates += [replace(one, label=numbers[name]) for one in part.candidates]
        found.problems += part.problems
    if source.split != "all":
        _keep_split(found, source, videos, lists)
    return found


def _is_class(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name not in _LIST_FOLDERS


def _ucf_folder(root: Path) -> Path:
    """The folder that holds the class folders."""
    return next(root / name for name in _UCF_FOLDERS if (root / name).is_dir())


def _list_folder(root: Path, videos: Path) -> Path | None:
    """The folder with the official lists, near the root or near the videos."""
    places = [base / name for base in (root, videos) for name in _LIST_FOLDERS]
    wanted = (CLASS_LIST, "trainlist01.txt", "testlist01.txt")
    return next((p for p in places if any((p / name).is_file() for name in wanted)), None)


def _ucf_classes(lists: Path | None, names: list[str], found: Found) -> tuple[str, ...]:
    """All classes in the order of their labels; partial copies keep the official numbers."""
    if lists is not None and (lists / CLASS_LIST).is_file():
        rows = [row.split() for row in _rows(lists / CLASS_LIST)]
        pairs = sorted((int(row[0]), row[1]) for row in rows if len(row) == 2 and row[0].isdigit())
        if len(pairs) == len(rows) and [n for n, _ in pairs] == list(range(1, len(rows) + 1)):
            return tuple(name for _, name in pairs)
        raise DataError(f"{lists / CLASS_LIST} is damaged: its rows must be like 1 ApplyEyeMakeup.")
    if len(names) != UCF_CLASSES:
        found.notes.append(
            f"{len(names)} of {UCF_CLASSES} classes are here and {CLASS_LIST} is not, so labels "
            "count these classes only and differ from the published ones."
        )
    return tuple(names)


def _keep_split(found: Found, source: VideoSource, videos: Path, lists: Path | None) -> None:
    """Keep what the official list names; name what it lists and the disk lacks."""
    name = f"{source.split}list{source.split_list:02d}.txt"
    if lists is None or not (lists / name).is_file():
        raise DataError(
            f"{name} is not in {source.root}: put the folder ucfTrainTestlist there, or take the "
            "split all, which the paper trains on."
        )
    listed = {re.split(r"\s+\d+$", row)[0].lower(): row for row in _rows(lists / name)}
    base = videos.relative_to(source.root).as_posix()
    prefix = "" if base == "." else f"{base}/"

    def row_of(key: str) -> str:
        return key.removeprefix(prefix).lower()

    here = {row_of(one.key) for one in found.candidates}
    here |= {row_of(one.key) for one in found.problems}
    found.candidates = [one for one in found.candidates if row_of(one.key) in listed]
    found.problems = [one for one in found.problems if row_of(one.key) in listed]
    for row in sorted(listed.keys() - here):
        found.problems.append(
            Problem(listed[row].split()[0], "missing", f"{name} lists it, but it is not here")
        )


def _rows(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


LAYOUTS: dict[str, Callable[[VideoSource], Found]] = {
    "folder": _find_folder,
    "faceforensics": _find_splits,
    "skytimelapse": _find_splits,
    "taichi-hd": _find_splits,
    "ucf101": _find_ucf101,
}
