"""X/Y sheets: planned whole, made cell by cell, drawn and tabled."""

import csv
import io
import threading

import numpy as np
import pytest
from fake_engine import FakeEngine, load_fake

from demo.executors import LocalExecutor
from demo.sheets import draw_sheet, to_csv, write_sheet
from demo.strings import load_texts
from demo.sweeps import (
    NO_AXIS,
    Axis,
    Cell,
    Progress,
    motion_of,
    parse_axis,
    plan_sweep,
    run_sweep,
    table_of,
)
from latte_core import (
    Cancelled,
    GenerationRequest,
    LatteError,
    NonFiniteError,
    RequestError,
    read_clip,
    read_recipe,
)

BASE = GenerationRequest("a red cat", seed=3, num_inference_steps=2)
STEPS, GUIDANCE = Axis("steps", (1, 2)), Axis("guidance", (1, 2.5, 4))


def start(engine, max_waiting=2):
    executor = LocalExecutor(load_fake(engine), max_waiting, load_texts())
    executor.start()
    return executor


def sweep(plan, engine):
    return [e for e in run_sweep(plan, start(engine), "page") if isinstance(e, Cell)]


def test_axis_is_read_from_text():
    assert parse_axis("steps", "4, 8,16 ,") == Axis("steps", (4, 8, 16))
    assert parse_axis("guidance", "1.5,7") == Axis("guidance", (1.5, 7))
    assert parse_axis("sampler", "ddim, euler").values == ("ddim", "euler")
    assert parse_axis("", "1, 2") == parse_axis(None, "") == NO_AXIS


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("size", "1", "An axis is one of steps, guidance, seed, sampler, plan, model, not 'size'"),
        ("steps", "", "steps has 0 values"),
        ("steps", None, "steps has 0 values"),
        ("steps", "1,2,3,4,5,6", "6 values, but a sheet takes 1 to 5"),
        ("steps", "4, 4", "the same value twice"),
    ],
)
def test_axis_with_a_fault_is_refused_in_a_sentence(name, text, words):
    with pytest.raises(LatteError, match=words):
        parse_axis(name, text)


def test_plan_has_a_request_for_every_cell():
    plan = plan_sweep(BASE, STEPS, GUIDANCE)
    found = [[(r.num_inference_steps, r.guidance_scale) for r in row] for row in plan.requests]
    assert found == [[(1, g), (2, g)] for g in (1, 2.5, 4)]
    assert {r.seed for row in plan.requests for r in row} == {3}
    assert plan.places == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert len(plan_sweep(BASE, GUIDANCE, NO_AXIS).requests) == 1


def test_plan_is_refused_before_anything_is_made():
    with pytest.raises(RequestError, match="num_inference_steps is 9999"):
        plan_sweep(BASE, Axis("steps", (2, 9999)), NO_AXIS)
    with pytest.raises(RequestError, match="scheduler is 'magic'"):
        plan_sweep(BASE, STEPS, Axis("sampler", ("ddim", "magic")))
    with pytest.raises(LatteError, match="Both axes are steps"):
        plan_sweep(BASE, STEPS, STEPS)
    with pytest.raises(LatteError, match="at least one axis"):
        plan_sweep(BASE, NO_AXIS, STEPS)
    with pytest.raises(LatteError, match="not both"):
        plan_sweep(GenerationRequest("a", mode="joint"), STEPS, NO_AXIS)


def test_cells_are_made_one_at_a_time_in_the_common_line():
    engine = FakeEngine()
    plan = plan_sweep(BASE, STEPS, GUIDANCE)
    events = list(run_sweep(plan, start(engine), "page"))
    cells = [event for event in events if isinstance(event, Cell)]
    assert [(cell.row, cell.column) for cell in cells] == plan.places
    assert [r.guidance_scale for r in engine.requests] == [1, 1, 2.5, 2.5, 4, 4]
    shares = [(e.done, e.step) for e in events if isinstance(e, Progress)]
    assert shares == sorted(shares) and shares[-1][0] == 6


def test_stop_ends_the_sheet_within_a_step():
    engine = FakeEngine(step_s=0.1)
    executor = start(engine)
    events = run_sweep(plan_sweep(BASE, STEPS, GUIDANCE), executor, "page")
    with pytest.raises(Cancelled):
        for event in events:
            if isinstance(event, Cell):
                threading.Timer(0.05, executor.cancel, ["page"]).start()
    assert len(engine.requests) == 2
    assert executor.waiting() == 0 or not engine.in_model.locked()


def test_closed_sheet_frees_the_model():
    executor = start(FakeEngine(step_s=0.1))
    events = run_sweep(plan_sweep(BASE, STEPS, NO_AXIS), executor, "page")
    while not getattr(next(events), "step", 0):
        pass
    events.close()
    assert executor.waiting() == 0


def test_failure_of_a_cell_ends_the_sheet():
    with pytest.raises(NonFiniteError):
        sweep(plan_sweep(BASE, STEPS, NO_AXIS), FakeEngine(fail=NonFiniteError("NaN")))


def test_sheet_shows_every_cell_in_its_place():
    plan = plan_sweep(BASE, Axis("seed", (1, 2)), STEPS)
    cells = sweep(plan, FakeEngine())
    sheet = draw_sheet(plan, cells)
    assert sheet.shape == (8, 26 + 2 * 134, 120 + 2 * 134, 3)  # cells of 64 are doubled
    whole = sheet.copy()
    for cell in cells:
        top, left = 26 + cell.row * 134, 120 + cell.column * 134
        for index in (0, 7):
            small = sheet[index, top : top + 128, left : left + 128].reshape(64, 2, 64, 2, 3)
            shown = small.mean((1, 3))
            assert np.abs(shown - cell.generation.frames[index]).mean() < 8
        whole[:, top : top + 128, left : left + 128] = 0
    assert whole[:, :, :120].max() > 150 and whole[:, :26].max() > 150  # the labels
    assert (draw_sheet(plan, cells[:1])[:, 26:154, 254:] != sheet[:, 26:154, 254:]).any()


def test_files_of_a_sheet_carry_recipe_and_axes(tmp_path):
    plan = plan_sweep(BASE, STEPS, NO_AXIS)
    cells = sweep(plan, FakeEngine())
    clip, still, table = write_sheet(plan, cells, tmp_path)
    assert read_clip(clip).shape == draw_sheet(plan, cells).shape
    for path in (clip, still):
        recipe = read_recipe(path)
        assert recipe["sheet"] == [{"name": "steps", "values": [1, 2]}]
        assert recipe["prompt"] == "a red cat"
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["steps"] for row in rows] == ["1", "2"] and float(rows[0]["denoise"]) == 0.1


def test_table_has_settings_seconds_and_motion():
    plan = plan_sweep(BASE, STEPS, GUIDANCE)
    rows = table_of(plan, sweep(plan, FakeEngine()))
    assert len(rows) == 6
    assert rows[-1] | {"motion": 0} == {
        **{"row": 3, "column": 2, "steps": 2, "guidance": 4.0, "seed": 3, "sampler": "ddim"},
        **{"plan": "full", "model": "fake-world"},
        **{"denoise": 0.1, "motion": 0},
    }
    assert next(iter(csv.DictReader(io.StringIO(to_csv(rows)))))["guidance"] == "1.0"


def test_motion_is_the_mean_change_of_a_pixel():
    still = np.full((4, 2, 2, 3), 9, np.uint8)
    assert motion_of(still) == motion_of(still[:1]) == 0
    still[1::2] = 19
    assert motion_of(still) == 10
