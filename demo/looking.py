"""What happens in the tab that looks inside: the drawings, and the attention of a finished film."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import gradio as gr

from demo.diagrams import draw_variants
from demo.keeping import sent
from demo.recipes import request_of
from demo.regions.inside import Inside
from demo.regions.studio import QUIET, Studio
from demo.stage import make_strip
from demo.visitors import owner_of
from latte_core import Cancelled, Inspected, Inspection, LatteError, Step

if TYPE_CHECKING:
    import numpy as np

POLL_S = 0.25
# Where a frame has more tokens than maps are kept of, these are looked at: an even grid of 8 x 8.
SIDE = 8


class Looker:
    """The events of the tab, in one language."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._texts = studio.texts

    def draw(self) -> str:
        """The four variants; drawn when the tab is first opened, since that needs torch."""
        return draw_variants(self._texts)

    def look(self, event: gr.EventData, page: gr.Request) -> Iterator[str]:
        """The component's values while a film is looked into, the maps being the last."""
        handlers = self._studio.handlers
        entry = handlers.history.get(sent(event, "key") or "", owner_of(page))
        step = sent(event, "step")
        try:
            if entry is None:
                raise LatteError(self._texts("files.gone"))
            inspection = Inspection(request_of(entry.recipe), step, self._places(entry.recipe))
            for value in self._follow(inspection, page.session_hash or ""):
                yield json.dumps({"key": entry.key, **value})
        except Cancelled:
            yield json.dumps({"state": "idle", "text": self._texts("inside.stopped")})
        except LatteError as error:
            yield json.dumps({"state": "failed", "text": str(error)})

    def _follow(self, inspection: Inspection, owner: str) -> Iterator[dict[str, Any]]:
        run = self._studio.handlers.executor.submit(inspection, owner, self._texts)
        text = self._texts("inside.waiting")
        try:
            while True:
                happened = run.poll(POLL_S)
                if isinstance(happened, Step):
                    text = self._texts(
                        "inside.running", index=happened.index, total=inspection.step
                    )
                if isinstance(happened, Inspected):
                    yield maps_of(happened) | {"state": "finished", "text": ""}
                    return
                if run.cancelled.is_set() and run.job is None:
                    raise Cancelled
                if happened is None or isinstance(happened, Step):
                    yield {"state": "running", "text": text}
        finally:
            run.cancel()

    def _places(self, recipe: dict[str, Any]) -> tuple[int, ...]:
        """All tokens of a small frame, an even choice of a large one's; () stands for all.

        Latte's latents are an eighth of the picture, and its tokens two latents wide.
        """
        rows, columns = (int(recipe.get(side) or 0) // 16 for side in ("height", "width"))
        if rows * columns <= SIDE * SIDE:
            return ()
        chosen_rows = [(2 * i + 1) * rows // (2 * SIDE) for i in range(SIDE)]
        chosen_columns = [(2 * i + 1) * columns // (2 * SIDE) for i in range(SIDE)]
        return tuple(dict.fromkeys(r * columns + c for r in chosen_rows for c in chosen_columns))


def maps_of(found: Inspected) -> dict[str, Any]:
    """The maps as the script reads them.

    Every block: its axes, and for space and time the weights as bytes (P places, then F frames,
    then N tokens or F frames) in units of `peak` / 255.
    """
    strip = make_strip(found.preview, found.preview[:0])
    return {
        "step": found.step,
        "total": found.total,
        "variant": found.variant,
        "rows": found.grid[0],
        "columns": found.grid[1],
        "places": list(found.places),
        "strip": asdict(strip),
        "blocks": [
            {"axes": list(block.axes), "space": _packed(block.space), "time": _packed(block.time)}
            for block in found.blocks
        ],
    }


def _packed(weights: np.ndarray | None) -> dict[str, Any] | None:
    if weights is None:
        return None
    peak = float(weights.max()) or 1.0
    values = (weights / peak * 255).round().astype("uint8")
    return {"peak": peak, "values": base64.b64encode(values.tobytes()).decode("ascii")}


def wire_inside(studio: Studio, inside: Inside) -> None:
    """The tab's opening, and the Look button of its script."""
    looker = Looker(studio)
    inside.tab.select(looker.draw, None, inside.variants, **QUIET)
    inside.viewer.look(looker.look, None, inside.viewer, **QUIET)
