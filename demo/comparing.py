"""What happens in the Compare tab: the runs to choose from, and a sheet as it is made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gradio as gr

from demo.regions.compare import FIRST_VALUES, Compare
from demo.regions.studio import QUIET, UNCHECKED, Studio
from demo.stage import make_strip
from demo.sweeping import Sheet, Sweeping
from demo.sweeps import MAX_VALUES, MODEL, Cell, Progress, SweepPlan, parse_axis
from demo.wiring import Widgets
from latte_core import LatteError

if TYPE_CHECKING:
    from latte_core import EngineInfo

TILE_SIDE = 96  # pixels of a cell while the sheet is being made


class SheetStory:
    """Tells one sheet: events in, JSON values of the component out."""

    def __init__(self, studio: Studio, plan: SweepPlan) -> None:
        self._texts = studio.texts
        self._value: dict[str, Any] = {
            "columns": [plan.x.label(i) for i in range(len(plan.x.values))],
            "rows": [plan.y.label(i) for i in range(len(plan.y.values))],
            "cells": [],
        }

    def tell(self, event: Progress | Cell | Sheet) -> str | None:
        """The component's value after this event; None if it looks the same."""
        if isinstance(event, Sheet):
            return self._finished(event)
        if isinstance(event, Cell):
            frames = event.generation.frames
            stride = max(1, max(frames.shape[1:3]) // TILE_SIDE)
            middle = frames[len(frames) // 2 :][:1, ::stride, ::stride]
            image = make_strip(middle, middle[:0]).image
            cell = {"row": event.row, "column": event.column, "image": image}
            self._value["cells"] = [*self._value["cells"], cell]
            return None
        share = (event.done + event.step / max(1, event.steps)) / event.total
        text = self._texts(
            "sheet.running", cell=min(event.done + 1, event.total), cells=event.total
        )
        return self._dump("running", text, progress=min(1.0, share))

    def failed(self, sentence: str) -> str:
        """The value that says what went wrong; the cells that were made stay."""
        return self._dump("failed", sentence)

    def _finished(self, sheet: Sheet) -> str:
        texts = self._texts
        key = "sheet.stopped" if sheet.stopped else "sheet.finished"
        files = {"mp4": sheet.clip, "png": sheet.still, "csv": sheet.table}
        links = [
            {"url": _url(path), "name": f"sheet.{kind}", "label": texts(f"sheet.{kind}")}
            for kind, path in files.items()
        ]
        text = texts(key, cells=len(sheet.cells))
        more = {"video": _url(sheet.clip), "links": links}
        return self._dump("finished", text, progress=1.0, **more)

    def _dump(self, state: str, text: str, **more: Any) -> str:
        return json.dumps({**self._value, "state": state, "text": text, **more})


def make_sheet(
    studio: Studio, asked: dict[str, Any], axes: dict[str, Any], owner: str
) -> Iterator[str]:
    """The Make button: the sheet's values, from first to last."""
    sweeping = Sweeping(studio.handlers)
    try:
        x = parse_axis(axes["x"], axes["x_values"])
        y = parse_axis(axes["y"], axes["y_values"])
        plan = sweeping.plan(studio.handlers.asked_for(asked), x, y)
    except LatteError as error:
        yield json.dumps({"state": "failed", "text": str(error)})
        return
    story = SheetStory(studio, plan)
    try:
        for event in sweeping.make(plan, owner):
            if (value := story.tell(event)) is not None:
                yield value
    except LatteError as error:
        yield story.failed(str(error))


def wire_compare(studio: Studio, widgets: Widgets, compare: Compare) -> None:
    """Make and Stop of the sheet. The two films need no event: their script has all it needs."""
    fields, sweeping = widgets.request_fields(), Sweeping(studio.handlers)
    axes = {
        "x": compare.x,
        "x_values": compare.x_values,
        "y": compare.y,
        "y_values": compare.y_values,
    }

    def make(values: dict[Any, Any], page: gr.Request) -> Iterator[str]:
        asked = {name: values[field] for name, field in fields.items()}
        chosen = {name: values[field] for name, field in axes.items()}
        yield from make_sheet(studio, asked, chosen, page.session_hash or "")

    def suggest(name: Any) -> Any:
        values = suggest_values(name, studio.handlers.model(), sweeping.models())
        return values or gr.skip()

    for name, box in ((compare.x, compare.x_values), (compare.y, compare.y_values)):
        name.input(suggest, name, box, **UNCHECKED, **QUIET)
    inputs = {*fields.values(), *axes.values()}
    compare.make.click(make, inputs, compare.sheet, **UNCHECKED, **QUIET)
    compare.stop.click(studio.handlers.stop, **QUIET)


def suggest_values(name: Any, info: EngineInfo | None, models: Iterable[str] = ()) -> str:
    """Values to begin with along an axis, as its field has them."""
    if name == MODEL:
        return ", ".join([*models][:MAX_VALUES])
    if name == "sampler" and info:
        return ", ".join(info.schedulers[:4])
    if name == "plan" and info:
        return ", ".join([*info.plan_shares()][:MAX_VALUES])
    return FIRST_VALUES.get(str(name), "")


def _url(path: str) -> str:
    """The address of one of the server's files, relative to the page."""
    return "gradio_api/file=" + quote(path)
