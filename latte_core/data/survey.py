"""What a data set holds, in figures and in words: the answer of `check`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from latte_core.data.pictures import FrameFolder, open_picture
from latte_core.data.source import VideoSource
from latte_core.data.video_set import Item, OnProgress, VideoSet, survey_source
from latte_core.data.walk import Problem
from latte_core.errors import DataError

HEADINGS = {
    "broken": "broken, left out",
    "short": "too short, left out",
    "missing": "listed, but missing",
    "caption": "captions that cannot be used",
}
DEEP_CHUNK = 64  # frames decoded at once
DEEP_SIZE = 8  # pixels; what is decoded is thrown away


@dataclass(frozen=True)
class Survey:
    """Figures of a data set. hours is None where no clip has a frame rate.

    sizes: clips of each "width x height", most first; classes: clips of each class by its name;
    captioned: clips with a caption; squeezed: clips shorter than their window but used, their
    frames lying closer.
    """

    kind: str
    root: str
    split: str
    clips: int
    frames: int
    hours: float | None
    shortest: int
    longest: int
    sizes: dict[str, int]
    rates: dict[str, int]
    classes: dict[str, int]
    captioned: int
    squeezed: int
    needed: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return asdict(self)


def survey(
    source: VideoSource, deep: bool = False, on_progress: OnProgress | None = None
) -> Survey:
    """Look into every clip of a data set; `deep` decodes every frame.

    Raises DataError if the set's folders are not there; what is wrong with single files is in the
    result.
    """
    videos = survey_source(source, on_progress)
    items, problems = list(videos.items), list(videos.problems)
    for item in videos.items:
        if reason := _inner_damage(item, deep):
            items.remove(item)
            problems.append(Problem(item.key, "broken", reason))
    return _count(videos, items, tuple(sorted(problems, key=lambda one: one.key)))


def _inner_damage(item: Item, deep: bool) -> str | None:
    """Why a clip that could be opened cannot be used after all."""
    file = item.file
    try:
        if isinstance(file, FrameFolder):
            for name in file.names:
                open_picture(file.path / name).close()
        if deep:
            for start in range(0, file.length, DEEP_CHUNK):
                file.read(range(start, min(start + DEEP_CHUNK, file.length)), DEEP_SIZE)
    except DataError as error:
        return str(error)
    return None


def _count(videos: VideoSet, items: list[Item], problems: tuple[Problem, ...]) -> Survey:
    source = videos.source
    lengths = [item.file.length for item in items]
    seconds = [item.file.length / item.file.rate for item in items if item.file.rate]
    labels = Counter(item.label for item in items)
    window = source.num_frames * source.stride
    return Survey(
        kind=source.kind,
        root=str(source.root),
        split=source.split,
        clips=len(items),
        frames=sum(lengths),
        hours=sum(seconds) / 3600 if seconds else None,
        shortest=min(lengths, default=0),
        longest=max(lengths, default=0),
        sizes=_table(f"{item.file.width} x {item.file.height}" for item in items),
        rates=_table(f"{item.file.rate:.4g}" for item in items if item.file.rate),
        classes={name: labels[number] for number, name in enumerate(videos.classes)},
        captioned=sum(bool(item.captions) for item in items),
        squeezed=sum(n < window for n in lengths) if source.windowing.spacing == "spread" else 0,
        needed=source.needed,
        problems=problems,
        notes=videos.notes,
    )


def _table(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def describe(found: Survey, limit: int) -> str:
    """The survey as lines to read, with at most `limit` names of each kind of problem."""
    split = "" if found.kind == "folder" else f", split {found.split}"
    lines = [f"{found.root} ({found.kind}{split})"]
    lines += [f"note      {note}" for note in found.notes]
    hours = "" if found.hours is None else f", {_time(found.hours)}"
    lines.append(f"clips     {found.clips}")
    if found.clips:
        span = f"{found.shortest} to {found.longest} a clip, {found.needed} are needed"
        lines.append(f"frames    {found.frames}{hours}; {span}")
        lines.append(f"sizes     {_few(found.sizes)}")
        if found.rates:
            lines.append(f"rates     {_few(found.rates)} frames a second")
        lines.append(f"captions  {found.captioned} of {found.clips} clips")
    if found.squeezed:
        lines.append(f"squeezed  {found.squeezed} clips are shorter than the window, used whole")
    if found.classes:
        lines += _class_lines(found.classes)
    for kind, heading in HEADINGS.items():
        named = [one for one in found.problems if one.kind == kind]
        if named:
            lines.append(f"{heading}: {len(named)}")
            lines += [f"  {one.key}: {one.reason}" for one in named[:limit]]
        if len(named) > limit:
            lines.append(f"  .. and {len(named) - limit} more; --all names them all")
    return "\n".join(lines) + "\n"


def _class_lines(classes: dict[str, int]) -> list[str]:
    here = {name: count for name, count in classes.items() if count}
    lines = [f"classes   {len(here)} of {len(classes)} have clips"]
    if here:
        lines[0] += f", {min(here.values())} to {max(here.values())} each"
    if lacking := [name for name, count in classes.items() if not count]:
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        lines.append(f"          none of {', '.join(lacking[:5])}{more}")
    return lines


def _few(table: dict[str, int]) -> str:
    first = [f"{value} ({count})" for value, count in list(table.items())[:4]]
    more = len(table) - len(first)
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def _time(hours: float) -> str:
    seconds = hours * 3600
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    return f"{hours:.1f} hours" if hours >= 1 else f"{seconds / 60:.1f} minutes"
