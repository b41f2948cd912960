"""The stage: one HTML component whose canvas plays the clip while it forms.

Its value is a JSON string (`StageState.to_json`). The markup never changes, so that the browser
keeps one canvas; `static/stage.js` reads each new value and draws it. Text is set as text there,
never as markup. The styles are in `static/stage.css`, loaded with the page: as the component's own
`css_template` they would be parsed again at every step.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr
import numpy as np
from PIL import Image

from demo.strings import Texts

STATIC = Path(__file__).parent / "static"
MAX_STRIP_CHARS = 60_000  # 50 steps stay under 3 MB, which a share link carries with ease
MAX_STRIP_WIDTH = 16_383  # WebP's limit
QUALITIES = (80, 60, 40, 20)

STAGE_TEXTS = (
    "label", "idle", "clip", "still", "progress", "seed", "reuse", "reword", "noise", "film",
    "steps", "frames", "play", "pause", "start", "step", "done", "frame",
    "unanswered",
)  # fmt: skip

State = Literal[
    "idle", "loading", "queued", "encoding", "running", "decoding", "finished", "stopped", "failed"
]
_SERIALS = itertools.count()


@dataclass(frozen=True)
class Strip:
    """All frames, then all stills, side by side in one picture.

    `image` is a data URI; `width` and `height` are those of one tile.
    """

    image: str
    frames: int
    stills: int
    width: int
    height: int


@dataclass(frozen=True)
class Link:
    """A file to download: its address, the name to save it under, the words on the link."""

    url: str
    name: str
    label: str


@dataclass(frozen=True)
class Part:
    """One part of a run: its name, whether it is `waiting`, `now` or `done`, and its time."""

    label: str
    state: Literal["waiting", "now", "done"] = "waiting"
    time: str = ""


@dataclass(frozen=True)
class Remedy:
    """A button that runs again with something changed: a memory plan, a size, or nothing."""

    label: str
    plan: str = ""
    size: str = ""
    anyway: bool = False


@dataclass(frozen=True)
class StageState:
    """Everything that the stage shows at one moment. `progress` None means unknown.

    `strip` shows the picture after `step` of `total` steps; step 0 is the noise. `remedies` are
    what one click can do about a failure. `reworded` is the prompt in words that the model knows,
    where `note` says that it knows some of them not.
    """

    state: State = "idle"
    text: str = ""
    detail: str = ""
    note: str = ""
    reworded: str = ""
    mode: str = "video"
    progress: float | None = None
    strip: Strip | None = None
    step: int | None = None
    total: int = 0
    parts: tuple[Part, ...] = ()
    fps: float = 8.0
    seed: int | None = None
    facts: str = ""
    video: str = ""
    stills: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    remedies: tuple[Remedy, ...] = ()

    def to_json(self) -> str:
        """The component's value; each is new, since Gradio hands on a value only if it differs.

        So the page hears of the same mistake made twice, and lets the button come back.
        """
        value = {**asdict(self), "serial": next(_SERIALS)}
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def make_strip(frames: np.ndarray, stills: np.ndarray) -> Strip:
    """Pack previews into one WebP of at most 60 kB.

    frames uint8 (F, h, w, 3), stills uint8 (I, h, w, 3); F or I may be 0, not both.
    Small pictures are kept without loss; large ones lose quality, then every other pixel.
    """
    tiles = np.concatenate([part for part in (frames, stills) if len(part)])
    count, height, width, _ = tiles.shape
    while count * width > MAX_STRIP_WIDTH:
        tiles = tiles[:, ::2, ::2]
        count, height, width, _ = tiles.shape
    uri = _to_uri(tiles)
    while len(uri) > MAX_STRIP_CHARS:
        tiles = tiles[:, ::2, ::2]
        _, height, width, _ = tiles.shape
        uri = _to_uri(tiles)
    return Strip(uri, len(frames), len(stills), width, height)


def _to_uri(tiles: np.ndarray) -> str:
    """The best of our encodings of tiles uint8 (N, h, w, 3) that fits, else the smallest."""
    image = Image.fromarray(np.concatenate(list(tiles), axis=1))
    options: Sequence[dict[str, Any]] = [{"quality": q, "method": 0} for q in QUALITIES]
    if tiles.size < MAX_STRIP_CHARS:
        options = [{"lossless": True, "method": 0}, *options]
    uri = ""
    for option in options:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", **option)
        uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        if len(uri) <= MAX_STRIP_CHARS:
            break
    return uri


def build_stage(texts: Texts, recorded: dict[str, str] | None = None) -> gr.HTML:
    """The stage as a Gradio component, idle; it plays the `recorded` run until a real one starts.

    `recorded` has the tape's `url` and, in words, what it shows (`text`) and that it can be
    dragged (`hint`); see recording.py.
    """
    return gr.HTML(
        value=StageState().to_json(),
        html_template=(STATIC / "stage.html").read_text(encoding="utf-8"),
        js_on_load=(STATIC / "stage.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="stage",
        label=texts("stage.label"),
        texts={key: texts(f"stage.{key}") for key in STAGE_TEXTS},
        recorded=recorded,
    )
