"""Open a data set and read clips and images from it.

    videos = open_source(VideoSource("ucf101", "UCF101", num_frames=16, stride=3, size=256))
    clip = videos.read_clip(0, np.random.default_rng(7))      # frames (16, 256, 256, 3), label

The random choices of a clip (window, mirroring, caption) come from the generator that the caller
gives, so a clip depends on nothing else. `latte_core.data.draws` makes such generators.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latte_core.data.caption_files import read_captions
from latte_core.data.layouts import find_clips
from latte_core.data.pictures import FrameFolder, probe_frames
from latte_core.data.source import VideoSource
from latte_core.data.video_file import VideoFile, probe_video
from latte_core.data.walk import Candidate, Problem
from latte_core.data.windows import draw_caption
from latte_core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Clip", "Item", "Problem", "VideoSet", "VideoSource", "open_source", "survey_source"]

PROBES = 8  # files looked into at once; probing waits for the disk more than for the processor
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip or image: uint8 frames (F, H, W, 3), its class, its caption, its name in the set."""

    frames: NDArray[np.uint8]
    label: int | None
    caption: str | None
    key: str


@dataclass(frozen=True)
class Item:
    """One usable clip on disk, with its class and all of its captions."""

    key: str
    file: VideoFile | FrameFolder
    label: int | None = None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class VideoSet:
    """The usable clips of a data set, in the order of their names.

    problems: what was left out, and why; notes: what was decided on the way. A set can be sent to
    other processes; it holds no open file.
    """

    source: VideoSource
    items: tuple[Item, ...]
    classes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        """The name of a clip."""
        return self.items[index].key

    def label(self, index: int) -> int | None:
        """The class of a clip, known without reading it."""
        return self.items[index].label

    def read_clip(self, index: int, rng: np.random.Generator) -> Clip:
        """Draw a window of clip `index` and read it: frames (num_frames, size, size, 3).

        Raises DataError, naming the file, if it turns out to be damaged there.
        """
        item, source = self.items[index], self.source
        numbers = source.windowing.draw(item.file.length, source.num_frames, source.stride, rng)
        mirrored = rng.random() < source.mirrored
        caption = _one_of(item.captions, draw_caption(len(item.captions), rng))
        frames = self.read_frames(index, numbers)
        return Clip(frames[:, :, ::-1] if mirrored else frames, item.label, caption, item.key)

    def read_image(self, index: int, rng: np.random.Generator) -> Clip:
        """Draw one frame of clip `index`: frames (1, size, size, 3), never mirrored.

        Raises DataError as read_clip does.
        """
        item = self.items[index]
        number = rng.integers(item.file.length, size=1)
        caption = _one_of(item.captions, draw_caption(len(item.captions), rng))
        return Clip(self.read_frames(index, number), item.label, caption, item.key)

    def read_frames(self, index: int, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """These frames of clip `index`, ascending: uint8 (F, size, size, 3)."""
        item = self.items[index]
        try:
            return item.file.read([int(n) for n in numbers], self.source.size)
        except DataError as error:
            raise DataError(f"{item.key}: {error}. Remove or replace it.") from error


def _one_of(captions: tuple[str, ...], choice: int | None) -> str | None:
    return None if choice is None else captions[choice]


def open_source(source: VideoSource, on_progress: OnProgress | None = None) -> VideoSet:
    """Find and probe the clips of a data set; `on_progress` is called with (done, total).

    What cannot be used is left out and listed in `problems`. Raises DataError if a folder is
    missing or nothing is usable.
    """
    videos = survey_source(source, on_progress)
    if not videos.items:
        shown = [f"{p.key}: {p.reason}" for p in videos.problems if p.kind != "caption"][:3]
        because = f" ({'; '.join(shown)})" if shown else ""
        raise DataError(
            f"{source.root} holds no usable clip{because}. A clip needs at least {source.needed} "
            "frames; python -m latte_core check tells more."
        )
    return videos


def survey_source(source: VideoSource, on_progress: OnProgress | None = None) -> VideoSet:
    """The same as `open_source`, but a set without usable clips is returned as it is."""
    found = find_clips(source)
    captions, wrong = read_captions(found.candidates, source.root, source.captions)
    items: list[Item] = []
    problems = [*found.problems, *wrong]
    with ThreadPoolExecutor(PROBES) as pool:
        for done, looked in enumerate(pool.map(_probe, found.candidates), start=1):
            candidate, file = looked
            if isinstance(file, str):
                problems.append(Problem(candidate.key, "broken", file))
            elif file.length < source.needed:
                reason = f"it has {file.length} of the {source.needed} frames that are needed"
                problems.append(Problem(candidate.key, "short", reason))
            else:
                texts = captions.get(candidate.key, ())
                items.append(Item(candidate.key, file, candidate.label, texts))
            if on_progress is not None:
                on_progress(done, len(found.candidates))
    items.sort(key=lambda item: item.key)
    problems.sort(key=lambda problem: problem.key)
    return VideoSet(source, tuple(items), found.classes, tuple(problems), tuple(found.notes))


def _probe(candidate: Candidate) -> tuple[Candidate, VideoFile | FrameFolder | str]:
    """Look into a clip; a text is the reason why it cannot be used."""
    try:
        if candidate.names:
            return candidate, probe_frames(candidate.path, candidate.names)
        return candidate, probe_video(candidate.path)
    except DataError as error:
        return candidate, str(error)
