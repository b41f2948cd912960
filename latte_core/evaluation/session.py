"""One measurement: the clips of all prompts as they are made, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latte_core.components.vae import decode_frames, encode_frames, load_vae
from latte_core.data.pixels import to_pixels
from latte_core.data.render import render_clip
from latte_core.data.world import ClipSpec
from latte_core.evaluation.probe import WorldProbe
from latte_core.evaluation.prompt_following import PromptSpec, score_stills
from latte_core.evaluation.shapes import Frames, ShapeReport, seen

if TYPE_CHECKING:
    from latte_core import EngineInfo


@dataclass
class Session:
    """Makes clips by `ask(prompt, **fields of the request)` and keeps what is to be reported.

    `size` is the (height, width) of the clips. With `first_frame`, each begins with the first frame
    of the rendered clip of its prompt.
    `made` holds the clips with their prompts.
    """

    probe: WorldProbe
    vae_folder: Path
    ask: Callable[..., Any]
    info: EngineInfo
    size: tuple[int, int]
    first_frame: bool = False
    made: list[tuple[str, Frames]] = field(default_factory=list)
    report: ShapeReport = field(default_factory=ShapeReport)
    stills: list[bool] = field(default_factory=list)
    real_stills: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._vae = load_vae(self.vae_folder)

    def generate(self, prompt: PromptSpec) -> Frames:
        """The clip of one prompt, uint8 (F, H, W, 3)."""
        from latte_core import load_picture

        more: dict[str, Any] = {}
        if self.first_frame:
            picture = self._picture(prompt)
            again = self.through_vae(picture[None])[0]
            self.report.pictures.append((picture, again))
            more["first_frame"] = load_picture(Image.fromarray(picture), *self.size)
        made = self.ask(prompt, **more)
        clip: Frames = made.frames
        self.made.append((prompt.prompt, clip))
        self.report.clips.append(clip)
        self.report.real.append(render_clip(prompt.spec, *clip.shape[:3]))
        if made.stills:
            still = [np.asarray(seen(one[None])[0]) for one in made.stills]
            self.stills += score_stills(self.probe, seen(clip), still, prompt.spec) or []
            real = seen(self.report.real[-1])
            shown = list(real[_spread(len(still), len(real))])
            self.real_stills += score_stills(self.probe, real, shown, prompt.spec) or []
        return clip

    def through_vae(self, frames: Frames) -> Frames:
        """Frames (F, H, W, 3) encoded and decoded again."""
        return decode_frames(self._vae, encode_frames(self._vae, to_pixels(frames)))

    def lines(self, specs: Sequence[ClipSpec]) -> list[str]:
        """What there is to say besides the table."""
        self.report.borders = self.info.borders(len(self.report.clips[0]))
        told = self.report.lines(self.probe, specs)
        if self.stills:
            told.append(
                f"stills beside right clips: {100 * np.mean(self.stills):.1f} % of "
                f"{len(self.stills)} show the clip's subject and place (rendered: "
                f"{100 * np.mean(self.real_stills):.1f} % of {len(self.real_stills)})"
            )
        return told

    def _picture(self, prompt: PromptSpec) -> NDArray[np.uint8]:
        """The first frame of the rendered clip."""
        frames = self.info.defaults.num_frames
        return render_clip(prompt.spec, frames, *self.size, only=(0,))[0]


def _spread(count: int, frames: int) -> list[int]:
    """`count` places spread over a clip's frames, the middle of each part."""
    return [(2 * k + 1) * frames // (2 * count) for k in range(count)]
