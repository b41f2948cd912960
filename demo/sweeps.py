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
from demo.recipes import number_of
from latte_core import Cancelled, EngineBusyError, Finished, GenerationRequest, LatteError, Step

if TYPE_CHECKING:
    from latte_core import Generation

POLL_S = 0.25
MAX_VALUES = 5  # along one axis: 25 cells are as many as fit on a screen
BUSY_S = 120.0  # how long a cell waits for a place in a full line
# The fields that a sheet may run over, under the names that its files and clients use.
AXES = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "seed": "seed",
    "sampler": "scheduler",
    "plan": "plan",
}


@dataclass(frozen=True)
class Axis:
    """A field by its short name, and the values that it takes. No values: there is no axis."""

    name: str
    values: tuple[int | float | str, ...]

    def label(self, index: int) -> str:
        """What stands beside this row or column."""
        return f"{self.name} {self.values[index]}" if self.values else ""


NO_AXIS = Axis("", ())


@dataclass(frozen=True)
class SweepPlan:
    """All requests of a sheet: `requests[row][column]`."""

    x: Axis
    y: Axis
    requests: tuple[tuple[GenerationRequest, ...], ...]

    @property
    def places(self) -> list[tuple[int, int]]:
        """(row, column) of every cell, in the order in which they are made."""
        return [
            (row, column) for row, cells in enumerate(self.requests) for column in range(len(cells))
        ]


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


def plan_sweep(base: GenerationRequest, x: Axis, y: Axis) -> SweepPlan:
    """Every cell's request. Raises LatteError if the axes are the same or a value is refused."""
    if not x.values:
        raise LatteError("A sheet needs at least one axis: choose what it runs over.")
    if x.name == y.name:
        raise LatteError(f"Both axes are {x.name}: choose two different ones, or none for rows.")
    if base.mode == "joint":
        raise LatteError("A sheet shows films or stills, not both: choose Video or Image.")
    rows = [replace(base, **_change(y, value)) for value in y.values] if y.values else [base]
    requests = tuple(tuple(replace(row, **_change(x, v)) for v in x.values) for row in rows)
    return SweepPlan(x, y, requests)


def run_sweep(plan: SweepPlan, executor: Executor, owner: str) -> Iterator[Cell | Progress]:
    """Make the cells, one after the other. Closing the iterator cancels the one that runs.

    Raises Cancelled if `owner` is cancelled, and what the engine raises.
    """
    for done, (row, column) in enumerate(plan.places):
        yield Progress(done, len(plan.places))
        run = _enter(executor, plan.requests[row][column], owner)
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
            **_settings(cell.generation.recipe),
            **{name: round(value, 4) for name, value in cell.generation.timings.items()},
            "motion": round(motion_of(cell.generation.frames), 4),
        }
        for cell in cells
    ]


def motion_of(frames: Any) -> float:
    """Mean change of a pixel from frame to frame, of 255; 0 for one frame."""
    import numpy as np

    if len(frames) < 2:
        return 0.0
    return float(np.abs(np.diff(frames.astype(np.int16), axis=0)).mean())


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {name: recipe.get(field) for name, field in AXES.items()}


def _change(axis: Axis, value: int | float | str) -> dict[str, Any]:
    return {AXES[axis.name]: value}


def _to_cell(row: int, column: int) -> Callable[[Generation], Cell]:
    return lambda generation: Cell(row, column, generation)


def _enter(executor: Executor, request: GenerationRequest, owner: str) -> Run:
    """Put a cell in line, waiting for a place in it. Raises EngineBusyError after a while."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            return executor.submit(request, owner)
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
