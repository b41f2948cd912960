"""Video files by PyAV: what one holds, and some of its frames, sought and not read from the start.

Frames are numbered on an even grid in time, whose step is the file's mean frame interval. With a
constant rate this is the plain numbering of frames; with a variable one, frame k is the picture
that is on the screen at time k / rate, so that a stride is always a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latte_core.data.pictures import to_square
from latte_core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

VIDEOS = frozenset(
    {
        *(".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv"),
        *(".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".gif"),
    }
)
# A playlist that calls itself a video could otherwise make ffmpeg fetch what it lists.
LOCAL_ONLY = {"protocol_whitelist": "file"}
STEP_BACK_S = 5.0  # further back if a seek lands behind its target, as it may in streams
LOST = 0.02  # share of the promised frames that may be missing before a file counts as cut off


@dataclass(frozen=True)
class VideoFile:
    """A video file.

    length: frames on its even grid; rate: frames a second; start: of the first frame, in seconds;
    width, height: in stored pixels, after turning; pixel_aspect: a pixel's width over its height.
    """

    path: Path
    length: int
    rate: float
    start: float
    width: int
    height: int
    pixel_aspect: float = 1.0

    def read(self, numbers: Sequence[int], size: int) -> NDArray[np.uint8]:
        """The frames of these ascending numbers as uint8 squares (F, size, size, 3).

        Decodes from the last key frame before the first number to the last number, no more.
        Raises DataError if the file ends earlier or is damaged there.
        """
        times = [self.start + int(n) / self.rate for n in numbers]
        with opened(self.path) as (container, stream):
            for back in (0.0, STEP_BACK_S, None):
                moving = self._from(container, stream, times[0], back)
                first = next(moving, None)
                late = first is None or first[0] > times[0] + 0.5 / self.rate
                if back is None or not late:
                    break
            if first is not None and late:
                raise DataError(f"its data around frame {int(numbers[0])} is damaged")
            frames = [] if first is None else self._pick(first, moving, times)
            pictures = [self._square(frame, size) for frame in frames]
        if len(pictures) < len(times):
            raise DataError(
                f"it ends before frame {int(numbers[len(pictures)])} of {self.length}: it is cut "
                "off or damaged"
            )
        return np.stack(pictures)

    def _from(
        self, container: Any, stream: Any, time: float, back: float | None
    ) -> Iterator[tuple[float, Any]]:
        """Decode from a key frame at least `back` seconds before `time`; None: from the start."""
        target = self.start if back is None else max(self.start, time - back)
        # Half a frame early: rounding to the stream's ticks must not skip a key frame.
        tick = int((target - 0.5 / self.rate) / stream.time_base)
        container.seek(min(tick, 0) if back is None else tick, stream=stream, backward=True)
        yield from timed_frames(container, stream, 1 / self.rate)

    def _pick(
        self, first: tuple[float, Any], more: Iterator[tuple[float, Any]], times: list[float]
    ) -> list[Any]:
        """For each time, the last frame that starts before it plus half an interval."""
        half = 0.5 / self.rate
        frames: list[Any] = []
        shown, gap = first, 1 / self.rate
        for moment in more:
            while len(frames) < len(times) and moment[0] > times[len(frames)] + half:
                frames.append(shown[1])
            if len(frames) == len(times):
                return frames
            shown, gap = moment, max(moment[0] - shown[0], gap)
        # The end: the last frame stays on the screen for its own time.
        stays = shown[0] + max(_duration(shown[1]), gap) + half
        return frames + [shown[1] for time in times[len(frames) :] if time <= stays]

    def _square(self, frame: Any, size: int) -> NDArray[np.uint8]:
        from PIL import Image

        if frame.is_corrupt:
            raise DataError("its data is damaged")
        upright = np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
        return to_square(Image.fromarray(np.ascontiguousarray(upright)), size, self.pixel_aspect)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file's container and its video stream. Raises DataError, also for damage found inside."""
    import av

    try:
        if not path.stat().st_size:
            raise DataError("it is empty (0 bytes)")
        # An absolute path: a name such as "take 2:1.mp4" would else be taken for an address.
        with av.open(
            str(path.absolute()), options=LOCAL_ONLY, metadata_errors="ignore"
        ) as container:
            streams = [s for s in container.streams.video if not _is_cover(s)]
            if not streams:
                kinds = " and ".join(sorted({s.type for s in container.streams})) or "nothing"
                raise DataError(f"it holds no video, only {kinds}")
            streams[0].codec_context.thread_count = 1  # a loader's workers share the cores already
            yield container, streams[0]
    except (OSError, av.FFmpegError) as error:
        raise DataError(f"it cannot be read ({_reason(error)})") from error


def _is_cover(stream: Any) -> bool:
    """Whether this is the picture on an album's cover."""
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def timed_frames(container: Any, stream: Any, interval: float) -> Iterator[tuple[float, Any]]:
    """Decode on from here: (time in seconds, frame); a frame without a time follows its former."""
    time = None
    for frame in container.decode(stream):
        ticks = frame.pts if frame.pts is not None else frame.dts
        if ticks is not None:
            time = float(ticks * frame.time_base)
        else:
            time = 0.0 if time is None else time + interval
        yield time, frame


def _duration(frame: Any) -> float:
    """How long a frame stays, in seconds; 0 if the file does not say."""
    return float((getattr(frame, "duration", 0) or 0) * frame.time_base)


def _quarter_turns(frame: Any) -> int:
    """Counter-clockwise quarter turns that set the frame upright, from the file's metadata."""
    return round(frame.rotation / 90) % 4


def probe_video(path: Path) -> VideoFile:
    """Look at a video file: decode its first frame, and read the packets of its end.

    Raises DataError with the reason if it is empty, holds no video, is damaged or cut off.
    """
    with opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        interval = 1 / float(rate) if rate else 0.04
        start, frame = next(timed_frames(container, stream, interval), (None, None))
        if start is None or frame is None:
            raise DataError("it holds no frame that can be decoded")
        promised = _promised(container, stream, interval)
        end = _end(container, stream, start + (promised or 0) * interval)
        if end is None or (promised and _length(start, end, interval) < promised):
            end = max(end or start, _end(container, stream, 0.0) or start)
        length = _length(start, end, interval)
        if promised and length < promised - max(2, LOST * promised):
            raise DataError(
                f"it is cut off: its header promises {promised} frames, its data ends after "
                f"{length}"
            )
        turned = _quarter_turns(frame) % 2
        width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        aspect = float(stream.sample_aspect_ratio or 1)
    aspect = 1 / aspect if turned else aspect
    return VideoFile(path, length, 1 / interval, start, width, height, aspect)


def _length(start: float, end: float, interval: float) -> int:
    return round((end - start) / interval) + 1


def _promised(container: Any, stream: Any, interval: float) -> int | None:
    """Number of frames by the header, if it says."""
    if stream.frames:
        return int(stream.frames)
    if stream.duration:
        return round(float(stream.duration * stream.time_base) / interval)
    if container.duration and len(container.streams) == 1:
        return round(container.duration / 1e6 / interval)
    return None


def _end(container: Any, stream: Any, time: float) -> float | None:
    """Start of the last frame that the file holds, by its last packets; None if none is found."""
    import av

    try:
        container.seek(int(time / stream.time_base), stream=stream, backward=True)
    except (OSError, av.FFmpegError):
        return None
    return _last_time(container, stream)


def _last_time(container: Any, stream: Any) -> float | None:
    import av

    last = None
    try:
        for packet in container.demux(stream):
            ticks = packet.pts if packet.pts is not None else packet.dts
            if ticks is not None and packet.size and not packet.is_corrupt:
                last = max(ticks, last) if last is not None else ticks
    except (OSError, av.FFmpegError):
        pass  # what was found up to the damage counts
    return None if last is None else float(last * stream.time_base)
