"""What to read: the kind of a data set, its folder, and the shape of its clips."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latte_core.data.windows import WINDOWINGS, Windowing
from latte_core.errors import ConfigError

SPLITS = ("train", "test", "all")
# Least and greatest value of every whole number; the upper ends only catch slips.
_LIMITS = {"num_frames": (1, 4096), "stride": (1, 1000), "size": (8, 4096), "split_list": (1, 3)}


@dataclass(frozen=True)
class VideoSource:
    """A data set on disk and the clips that are wanted of it.

    kind: "folder", "faceforensics", "skytimelapse", "taichi-hd" or "ucf101".
    num_frames, stride: a clip's length and the interval between its frames, 16 and 3 in the paper.
    size: side of the square that frames are cropped and scaled to, in pixels.
    split: "train", "test" or "all"; a plain folder has no splits and ignores it.
    split_list: which of UCF101's three official divisions into train and test.
    flip: probability of mirroring a clip; None takes the kind's own.
    captions: file of captions (JSON, JSONL or CSV); None looks for one in the root.

    Raises ConfigError for values outside their limits.
    """

    kind: str
    root: Path
    num_frames: int = 16
    stride: int = 3
    size: int = 256
    split: str = "train"
    split_list: int = 1
    flip: float | None = None
    captions: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser())
        if self.captions is not None:
            object.__setattr__(self, "captions", Path(self.captions).expanduser())
        if self.kind not in WINDOWINGS:
            raise ConfigError(f"kind is {self.kind!r}, but must be one of {', '.join(WINDOWINGS)}.")
        if self.split not in SPLITS:
            raise ConfigError(f"split is {self.split!r}, but must be one of {', '.join(SPLITS)}.")
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ConfigError(
                    f"{name} is {value!r}, but must be a whole number {least}..{most}."
                )
        if self.flip is not None and not (math.isfinite(self.flip) and 0 <= self.flip <= 1):
            raise ConfigError(f"flip is {self.flip!r}, but must be a probability from 0 to 1.")

    @property
    def windowing(self) -> Windowing:
        """How this kind's frames are chosen."""
        return WINDOWINGS[self.kind]

    @property
    def mirrored(self) -> float:
        """The probability of mirroring that holds."""
        return self.windowing.flip if self.flip is None else self.flip

    @property
    def needed(self) -> int:
        """The least number of frames that a clip must have."""
        return self.windowing.needed(self.num_frames, self.stride)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values; VideoSource(**fields) makes it again."""
        fields = asdict(self)
        return {key: str(v) if isinstance(v, Path) else v for key, v in fields.items()}
