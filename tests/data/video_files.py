"""Small real video files and frame folders whose pictures tell their own number.

The middle square of a picture has red top left, blue top right, and below ten bars that spell the
frame's number in binary, so a test reads from the pixels which frame it got, and how it lies.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

BITS = 10


def numbered_picture(number: int, width: int = 64, height: int = 64) -> np.ndarray:
    """The picture of a frame: uint8 (height, width, 3), grey outside of its middle square."""
    side = min(width, height)
    square = np.zeros((side, side, 3), np.uint8)
    square[: side // 4, : side // 2] = (255, 0, 0)
    square[: side // 4, side // 2 :] = (0, 0, 255)
    for bit in range(BITS):
        if number >> bit & 1:
            square[side // 4 :, bit * side // BITS : (bit + 1) * side // BITS] = 255
    picture = np.full((height, width, 3), 128, np.uint8)
    left, top = (width - side) // 2, (height - side) // 2
    picture[top : top + side, left : left + side] = square
    return picture


def read_number(frame: np.ndarray) -> int:
    """The number in a square picture, mirrored or not."""
    side = len(frame)
    row = frame[side * 5 // 8].mean(axis=-1)
    if is_mirrored(frame):
        row = row[::-1]
    middles = [int((bit + 0.5) * side / BITS) for bit in range(BITS)]
    return sum(int(row[middle] > 127) << bit for bit, middle in enumerate(middles))


def is_mirrored(frame: np.ndarray) -> bool:
    """Whether red is on the right. Fails unless red and blue are on top, side by side."""
    side = len(frame)
    left, right = (frame[side // 8, side * k // 4].astype(int) for k in (1, 3))
    assert abs(left[0] - right[0]) > 100 and abs(left[2] - right[2]) > 100
    return bool(left[0] < right[0])


def numbers_of(frames: np.ndarray) -> list[int]:
    """The numbers in a clip (F, S, S, 3)."""
    return [read_number(frame) for frame in frames]


def write_video(
    path: Path,
    count: int,
    *,
    size: tuple[int, int] = (64, 64),
    codec: str = "",
    rate: int = 25,
    ticks: list[int] | None = None,
    b_frames: int = 0,
    pixel_aspect: int = 1,
) -> Path:
    """Write `count` numbered frames; `ticks` are their times in 1/1000 s, for a varying rate."""
    codec = codec or {".avi": "mpeg4", ".webm": "libvpx-vp9"}.get(path.suffix.lower(), "libx264")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p" if not (size[0] % 2 or size[1] % 2) else "yuv444p"
        stream.codec_context.gop_size = 12
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number, *size), format="rgb24")
            if ticks is not None:
                frame.pts, frame.time_base = ticks[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_frames(
    folder: Path, count: int, *, size: tuple[int, int] = (64, 64), name: str = "frame_{}.png"
) -> Path:
    """Write `count` numbered pictures as a folder of frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(numbered_picture(number, *size)).save(folder / name.format(number))
    return folder


def write_sound(path: Path) -> Path:
    """Write an mp4 that holds a tone and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        samples = np.sin(np.arange(1024, dtype=np.float32))[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
