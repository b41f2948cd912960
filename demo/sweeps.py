"""X/Y sheets: one request, with one or two of its fields running over a few values.

A sheet is planned and checked as a whole before its first cell is made. Its cells go into the same
line as everybody's films, one at a time, so that a sheet holds nobody up for longer than a film.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from demo.executors import Executor, Run
from demo.models import Model, name_in
from demo.recipes import number_of
from latte_core import Cancelled, EngineBusyError, Finished, GenerationRequest, LatteError, Step

if TYPE_CHECKING:
    from latte_core import Generation

POLL_S = 0.25
MAX_VALUES = 5  # along one axis: 25 cells are as many as fit on a screen
MODEL = "model"
BUSY_S = 120.0  # how long a cell waits for a place in a full line
# The fields that a sheet may run over, under the names that its files and clients use.
AXES = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "seed": "seed",
    "sampler": "scheduler",
    "plan": "plan",
    MODEL: MODEL,
}
# What another model is to choose for itself, unless the other axis says it.
OWN_TO_A_MODEL = ("num_inference_steps", "guidance_scale", "scheduler", "plan")
ITS_SHAPE = ("num_frames", "height", "width", "tempo")


@dataclass(frozen=True)
class Axis:
    """A field by its short name, and the values that it takes. No values: there is no axis."""

    name: str
    values: tuple[int | float | str, ...]

    def label(self, index: int) -> str:
        """What stands beside this row or column."""
        if self.name == MODEL:
            return str(self.values[index])
        return f"{self.name} {self.values[index]}" if self.values else ""


NO_AXIS = Axis("", ())


@dataclass(frozen=True)
class SweepPlan:
    """All requests of a sheet, `requests[row][column]`, and for each the source of its model."""

    x: Axis
    y: Axis
    requests: tuple[tuple[GenerationRequest, ...], ...]
    sources: tuple[tuple[str, ...], ...]

    @property
    def places(self) -> list[tuple[int, int]]:
        """(row, column) of every cell, in the order in which they are made: model by model."""
        places = [
            (row, column) for row, cells in enumerate(self.requests) for column in range(len(cells))
        ]
        order = list(dict.fromkeys(["", *(self.sources[row][column] for row, column in places)]))
        return sorted(places, key=lambda place: order.index(self.sources[place[0]][place[1]]))


@dataclass(frozen=True, eq=False)
class Cell:
    """One finished cell of a sheet."""

    row: int
    column: int
    generation: Generation


@dataclass(frozen=True)
class Progress:
    """Where a sheet stands: `done` of `total` cells, and the step of the one that is being made."""

    done: int
    total: int
    step: int = 0
    steps: int = 0


def parse_axis(name: str, text: str) -> Axis:
    """An axis from its name and values with commas between them, `4, 8, 16`.

    Raises LatteError with a sentence for an unknown name, no values, too many, or doubles.
    """
    if not name:
        return NO_AXIS
    if name not in AXES:
        raise LatteError(f"An axis is one of {', '.join(AXES)}, not {str(name)[:40]!r}.")
    values = tuple(number_of(part.strip()) for part in str(text or "").split(",") if part.strip())
    if not 1 <= len(values) <= MAX_VALUES:
        raise LatteError(
            f"{name} has {len(values)} values, but a sheet takes 1 to {MAX_VALUES} along an axis: "
            "write them with commas between, such as 4, 8, 16."
        )
    if len(set(values)) < len(values):
        raise LatteError(f"{name} has the same value twice: leave one out.")
    return Axis(name, values)


def plan_sweep(
    base: GenerationRequest, x: Axis, y: Axis, models: Mapping[str, Model] | None = None
) -> SweepPlan:
    """Every cell's request. Raises LatteError if the axes are the same or a value is refused.

    `models` are those that an axis may name. Each has its own steps, guidance, sampler and plan
    where no axis says otherwise, and one that is not the page's own its own size and length.
    """
    if not x.values:
        raise LatteError("A sheet needs at least one axis: choose what it runs over.")
    if x.name == y.name:
        raise LatteError(f"Both axes are {x.name}: choose two different ones, or none for rows.")
    if base.mode == "joint":
        raise LatteError("A sheet shows films or stills, not both: choose Video or Image.")
    cells = [
        [_cell(base, {y.name: row, x.name: column}, models or {}) for column in x.values]
        for row in y.values or (None,)
    ]
    requests = tuple(tuple(request for request, _ in row) for row in cells)
    return SweepPlan(x, y, requests, tuple(tuple(source for _, source in row) for row in cells))


def _cell(
    base: GenerationRequest, chosen: dict[str, Any], models: Mapping[str, Model]
) -> tuple[GenerationRequest, str]:
    """The request of one cell, and the source of its model."""
    source = ""
    if MODEL in chosen:
        name = str(chosen[MODEL])
        if name not in models:
            raise LatteError(f"model is {name[:60]!r}, but this page has: {', '.join(models)}.")
        model = models[name]
        source = model.source
        if source or model.turbo != base.turbo:
            left: dict[str, Any] = dict.fromkeys(OWN_TO_A_MODEL + (ITS_SHAPE if source else ()))
            base = replace(base, turbo=model.turbo, **left)
    own = {AXES[name]: value for name, value in chosen.items() if name and name != MODEL}
    return replace(base, **own), source


def run_sweep(plan: SweepPlan, executor: Executor, owner: str) -> Iterator[Cell | Progress]:
    """Make the cells, one after the other. Closing the iterator cancels the one that runs.

    Raises Cancelled if `owner` is cancelled, and what the engine raises.
    """
    for done, (row, column) in enumerate(plan.places):
        yield Progress(done, len(plan.places))
        run = _enter(executor, plan.requests[row][column], owner, plan.sources[row][column])
        try:
            yield from _follow(run, Progress(done, len(plan.places)), _to_cell(row, column))
        finally:
            run.cancel()
    yield Progress(len(plan.places), len(plan.places))


def table_of(plan: SweepPlan, cells: list[Cell]) -> list[dict[str, Any]]:
    """A row for every finished cell: where it is, its settings, its seconds, how much it moves."""
    return [
        {
            "row": cell.row + 1,
            "column": cell.column + 1,
            **settings_of(cell.generation.recipe),
            **_called(plan, cell),
            **{name: round(value, 4) for name, value in cell.generation.timings.items()},
            "motion": round(motion_of(cell.generation.frames), 4),
        }
        for cell in cells
    ]


def _called(plan: SweepPlan, cell: Cell) -> dict[str, Any]:
    """The model as the axis calls it: two folders may hold models of one name."""
    named = {plan.x.name: (plan.x, cell.column), plan.y.name: (plan.y, cell.row)}
    if MODEL not in named:
        return {}
    axis, place = named[MODEL]
    return {MODEL: axis.values[place]}


def motion_of(frames: Any) -> float:
    """Mean change of a pixel from frame to frame, of 255; 0 for one frame."""
    import numpy as np

    if len(frames) < 2:
        return 0.0
    return float(np.abs(np.diff(frames.astype(np.int16), axis=0)).mean())


def settings_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says of every axis."""
    fields = {name: recipe.get(field) for name, field in AXES.items()}
    return fields | {MODEL: name_in(recipe)}


def _to_cell(row: int, column: int) -> Callable[[Generation], Cell]:
    return lambda generation: Cell(row, column, generation)


def _enter(executor: Executor, request: GenerationRequest, owner: str, source: str) -> Run:
    """Put a cell in line, waiting for a place in it. Raises EngineBusyError after a while."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            return executor.submit(request, owner, source=source)
        except EngineBusyError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_S)


def _follow(
    run: Run, progress: Progress, to_cell: Callable[[Generation], Cell]
) -> Iterator[Cell | Progress]:
    """The steps of a cell, then the cell. A Progress comes at least four times a second."""
    while True:
        event = run.poll(POLL_S)
        if event is None:
            if run.cancelled.is_set() and run.job is None:
                raise Cancelled
            yield progress
        elif isinstance(event, Step):
            progress = replace(progress, step=event.index, steps=event.total)
            yield progress
        elif isinstance(event, Finished):
            yield to_cell(event.generation)
            return
