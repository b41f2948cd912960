"""Clips of other lengths and sizes, and clips from a start picture: what the probe makes of them.

The probe was trained on 16 frames, so it is shown `seen` such frames of any clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from latte_core.data.world import ClipSpec
from latte_core.evaluation.probe import WorldProbe, scaled
from latte_core.evaluation.prompt_following import score
from latte_core.evaluation.smoothness import frame_differences, seam

Frames = NDArray[np.uint8]
PROBE_FRAMES = 16


def seen(clip: Frames) -> Frames:
    """What the probe is shown of a clip (F, H, W, 3): 16 even frames, at the probe's size."""
    return scaled(clip[np.linspace(0, len(clip) - 1, PROBE_FRAMES).round().astype(int)])


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two pictures in dB."""
    error = ((one.astype(np.float64) - other) ** 2).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def first_change(clip: Frames) -> float:
    """How much the first frame differs from the second, in medians of all later differences."""
    differences = frame_differences(clip)
    return float(differences[0] / max(np.median(differences[1:]), 1e-9))


@dataclass
class ShapeReport:
    """Collects clips, and says of all what no single number of prompt following does.

    `borders` are the frames at which a window starts or ends. `real` has rendered clips of the same
    specs, `pictures` the start picture of each clip and what the autoencoder alone makes of it.
    """

    borders: Sequence[int] = ()
    clips: list[Frames] = field(default_factory=list)
    real: list[Frames] = field(default_factory=list)
    pictures: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = field(default_factory=list)

    def lines(self, probe: WorldProbe, specs: Sequence[ClipSpec]) -> list[str]:
        """The report: smoothness, then windows and start pictures where there are any."""
        told = [
            "mean change from frame to frame: "
            f"{_mean(frame_differences(c).mean() for c in self.clips):.2f} of 255, rendered "
            f"{_mean(frame_differences(c).mean() for c in self.real):.2f}"
        ]
        if self.borders:
            told += [self._seams(), self._windows(probe, specs)]
        if self.pictures:
            told.append(self._beginnings())
        return told

    def _seams(self) -> str:
        half = len(self.clips[0]) // 2
        seams = [seam(clip, self.borders) for clip in self.clips]
        control = [seam(np.concatenate([c[:half], c[:half]]), [half]) for c in self.clips]
        return (
            f"clips with a seam at a window's border: {sum(s > 1 for s in seams)} of {len(seams)} "
            f"(control, two halves end to end: {sum(s > 1 for s in control)} of {len(control)})"
        )

    def _windows(self, probe: WorldProbe, specs: Sequence[ClipSpec]) -> str:
        shares = []
        step = PROBE_FRAMES // 2
        for first in range(0, len(self.clips[0]) - PROBE_FRAMES + 1, step):
            parts = [seen(clip[first : first + PROBE_FRAMES]) for clip in self.clips]
            right = score(probe, parts, specs, "").right
            shares.append(f"{100 * right['subject']:.0f}/{100 * right['motion']:.0f}")
        return f"subject/motion right in 16 frames from 0, {step}, ..., in %: {', '.join(shares)}"

    def _beginnings(self) -> str:
        ours = [psnr(c[0], p) for c, (p, _) in zip(self.clips, self.pictures, strict=True)]
        alone = [psnr(again, picture) for picture, again in self.pictures]
        return (
            f"first frame: {_mean(ours):.1f} dB to the picture (autoencoder alone "
            f"{_mean(alone):.1f} dB); change to the second, in medians of later changes: "
            f"{np.median([first_change(c) for c in self.clips]):.2f}, rendered "
            f"{np.median([first_change(c) for c in self.real]):.2f}"
        )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
