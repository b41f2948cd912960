"""The events of an X/Y sheet, for page and clients: what was asked to a plan, cells to files."""

from __future__ import annotations

import html
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from demo.handlers import MAX_SEED, Handlers
from demo.markup import plan_of_now
from demo.models import Model, known_models
from demo.sheets import write_sheet
from demo.sweeps import (
    Axis,
    Cell,
    Progress,
    SweepPlan,
    parse_axis,
    plan_sweep,
    run_sweep,
    table_of,
)
from latte_core import Cancelled, GenerationRequest, LatteError, MediaError, RequestError

if TYPE_CHECKING:
    from latte_core import EngineInfo


def _check_plan(request: GenerationRequest, info: EngineInfo) -> None:
    """Raise RequestError, with the names that there are, for a plan that the model lacks."""
    known = info.plan_shares(request.scheduler, request.num_inference_steps)
    if request.plan is not None and request.plan not in known:
        raise RequestError(
            "plan",
            f"plan is {request.plan[:40]!r}, but with these settings the model has: "
            f"{', '.join(known)}.",
        )


SheetResult = tuple[str | None, str | None, str | None, dict[str, Any]]


@dataclass(frozen=True)
class Sheet:
    """A finished sheet: its files, and a row for every cell. `stopped` if cells are missing."""

    plan: SweepPlan
    clip: str
    still: str
    table: str
    cells: list[dict[str, Any]]
    stopped: bool = False


class Sweeping:
    """Makes sheets with the engine of a page's handlers."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def plan(self, base: GenerationRequest, x: Axis, y: Axis) -> SweepPlan:
        """A checked plan. A seed that is open is drawn once, so that cells differ by axes alone.

        Raises LatteError.
        """
        if base.seed is None:
            base = replace(base, seed=secrets.randbelow(MAX_SEED + 1))
        plan = plan_sweep(base, x, y, self.models())
        if info := self._handlers.model():
            for row, column in plan.places:
                request = plan.requests[row][column]
                if not plan.sources[row][column]:
                    request.check_conditioning(info.conditioning, info.classes)
                    _check_plan(request, info)
        return plan

    def models(self) -> dict[str, Model]:
        """The models that an axis may name; none before the page's own is loaded."""
        info = self._handlers.model()
        return known_models(info, self._handlers.executor.sources) if info else {}

    def make(self, plan: SweepPlan, owner: str) -> Iterator[Progress | Cell | Sheet]:
        """Make the cells, then the files; a stopped sheet holds what was made until then.

        Raises LatteError if nothing could be made.
        """
        cells: list[Cell] = []
        stopped: Cancelled | None = None
        try:
            for event in run_sweep(plan, self._handlers.executor, owner):
                if isinstance(event, Cell):
                    cells.append(event)
                yield event
        except Cancelled as cancelled:
            stopped = cancelled
        if not cells:
            raise stopped or MediaError("The sheet has no cells.")
        clip, still, table = write_sheet(plan, cells, self._handlers.outputs.new_folder())
        rows = table_of(plan, cells)
        yield Sheet(plan, str(clip), str(still), str(table), rows, stopped is not None)

    def for_client(self, asked: dict[str, Any], axes: dict[str, Any]) -> Iterator[SheetResult]:
        """The `/sweep` endpoint: progress first, then the sheet's clip, picture, table, rows."""
        try:
            plan = self.plan(
                GenerationRequest(**asked),
                parse_axis(axes["x"], axes["x_values"]),
                parse_axis(axes["y"], axes["y_values"]),
            )
            for event in self.make(plan, owner=""):
                if isinstance(event, Sheet):
                    report = {"state": "finished", "cells": event.cells}
                    yield event.clip, event.still, event.table, report
                elif isinstance(event, Progress):
                    share = event.done / event.total
                    yield None, None, None, {"state": "running", "progress": round(share, 4)}
        except LatteError as error:
            # Gradio's own pages show the message as markup.
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from error

    def status(self) -> dict[str, Any]:
        """The `/status` endpoint: what runs here, and how busy it is."""
        from latte_core import __version__

        readiness = self._handlers.executor.readiness()
        info = readiness.info
        waiting = self._handlers.executor.waiting()
        status: dict[str, Any] = {
            "ready": info is not None,
            "message": readiness.failure or readiness.loading.message,
            "version": __version__,
            "running": min(waiting, 1),
            "waiting": max(waiting - 1, 0),
        }
        if info is None:
            return status
        defaults = info.defaults
        names = ("num_inference_steps", "guidance_scale", "num_frames", "height", "width", "fps")
        return status | {
            "model": info.card.get("name") or info.model,
            "model_hash": info.model_hash,
            "device": info.device,
            "memory": plan_of_now(info),
            "conditioning": info.conditioning,
            "classes": list(info.classes),
            "modes": list(info.modes),
            "schedulers": list(info.schedulers),
            "plans": info.plan_shares(),
            "models": list(self.models()),
            "defaults": {name: getattr(defaults, name) for name in names}
            | {"scheduler": defaults.scheduler, "plan": defaults.plan},
        }
