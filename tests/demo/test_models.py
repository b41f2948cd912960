"""Models as an axis of a sheet: their names, their requests, and one job at a time among them."""

import threading
import time

import pytest
from fake_engine import INFO, FakeEngine, FakeInfo, load_fake

from demo.executors import LocalExecutor
from demo.models import Guests, Model, known_models, name_in
from demo.sheets import draw_sheet
from demo.strings import load_texts
from demo.sweeps import NO_AXIS, Axis, Cell, plan_sweep, run_sweep, table_of
from latte_core import GenerationRequest, LatteError, RequestError

BASE = GenerationRequest("a red cat", seed=3, num_inference_steps=3, guidance_scale=2.5)
MODELS = {
    "mine": Model(),
    "mine-turbo": Model("", True),
    "theirs": Model("folder/theirs"),
}


class Guest(FakeEngine):
    """Says when it is closed."""

    def __init__(self, name, *, closed):
        super().__init__(step_s=0.002)
        self.name, self.closed = name, closed

    def close(self):
        self.closed.append(self.name)


def test_names_are_the_folders_and_turbo_is_one_of_its_own(tmp_path):
    for folder in ("a/fast", "b/fast", "slow"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a/fast/transformer_turbo").mkdir()
    own = FakeInfo(**{**vars(INFO), "model": "assets/latte-world", "turbo": True})
    sources = [str(tmp_path / name) for name in ("a/fast", "b/fast", "slow")]
    assert known_models(own, sources) == {
        "latte-world": Model(),
        "latte-world-turbo": Model("", True),
        "fast": Model(sources[0]),
        "fast-turbo": Model(sources[0], True),
        sources[1]: Model(sources[1]),
        "slow": Model(sources[2]),
    }
    assert list(known_models(FakeInfo(**{**vars(INFO), "turbo": False}), ())) == ["fake-world"]


def test_a_model_has_its_own_settings_where_no_axis_says_otherwise():
    plan = plan_sweep(BASE, Axis("model", tuple(MODELS)), NO_AXIS, MODELS)
    mine, turbo, theirs = plan.requests[0]
    assert mine == BASE and plan.sources == (("", "", "folder/theirs"),)
    assert (turbo.turbo, turbo.num_inference_steps, turbo.guidance_scale) == (True, None, None)
    assert (theirs.turbo, theirs.num_inference_steps, theirs.height) == (False, None, None)
    steps = plan_sweep(BASE, Axis("model", tuple(MODELS)), Axis("steps", (2, 4)), MODELS)
    assert [[r.num_inference_steps for r in row] for row in steps.requests] == [[2] * 3, [4] * 3]
    back = plan_sweep(GenerationRequest("a", turbo=True), Axis("model", ("mine",)), NO_AXIS, MODELS)
    assert not back.requests[0][0].turbo


def test_cells_are_made_model_by_model():
    plan = plan_sweep(BASE, Axis("model", ("theirs", "mine")), Axis("seed", (1, 2)), MODELS)
    assert plan.places == [(0, 1), (1, 1), (0, 0), (1, 0)]


def test_unknown_model_and_guidance_of_turbo_are_refused_before_anything_is_made():
    with pytest.raises(LatteError, match=r"model is 'else', but this page has: mine, mine-turbo"):
        plan_sweep(BASE, Axis("model", ("else",)), NO_AXIS, MODELS)
    with pytest.raises(RequestError, match="turbo has its guidance built in"):
        plan_sweep(BASE, Axis("model", ("mine-turbo",)), Axis("guidance", (4,)), MODELS)


def test_sheet_goes_through_the_models_and_keeps_one_guest():
    own, closed, loaded = FakeEngine(), [], []

    def load(source):
        loaded.append(source)
        return Guest(source, closed=closed)

    executor = LocalExecutor(load_fake(own), 4, load_texts(), Guests(load, ("x", "y")))
    executor.start()
    models = {"own": Model(), "x": Model("x"), "y": Model("y")}
    plan = plan_sweep(BASE, Axis("model", ("x", "own", "y")), Axis("seed", (1, 2)), models)
    cells = [event for event in run_sweep(plan, executor, "page") if isinstance(event, Cell)]
    assert len(cells) == 6 and len(own.requests) == 2
    assert loaded == ["x", "y"] and closed == ["x"]
    named = [(row["column"], row["model"]) for row in table_of(plan, cells)]
    assert set(named) == {(1, "x"), (2, "own"), (3, "y")}
    frames = draw_sheet(plan, cells)
    assert frames.shape[1] > 2 * 128 and frames.shape[2] > 3 * 128


def test_one_job_at_a_time_among_all_models():
    """The later of two jobs waits for the earlier one's model, whichever it is."""
    own, guest = FakeEngine(), FakeEngine()
    own.hold_at = guest.hold_at = 2
    executor = LocalExecutor(load_fake(own), 4, load_texts(), Guests(lambda _: guest, ("x",)))
    executor.start()
    first = executor.submit(BASE, "one")
    second = executor.submit(BASE, "two", source="x")
    third = executor.submit(BASE, "three")
    _until(lambda: own.requests)
    time.sleep(0.3)
    assert not guest.requests and third.job is None
    own.go.set()
    _until(lambda: guest.requests)
    time.sleep(0.3)
    assert len(own.requests) == 1  # the third waits for the guest
    guest.go.set()
    _until(lambda: len(own.requests) == 2)
    assert first.source == third.source == "" and second.source == "x"


def test_guest_that_cannot_be_loaded_fails_its_job_alone():
    def load(source):
        raise LatteError(f"There is no model at {source}.")

    executor = LocalExecutor(load_fake(FakeEngine()), 4, load_texts(), Guests(load, ("x",)))
    executor.start()
    models = {"own": Model(), "x": Model("x")}
    plan = plan_sweep(BASE, Axis("model", ("own", "x")), NO_AXIS, models)
    events = run_sweep(plan, executor, "page")
    with pytest.raises(LatteError, match="There is no model at x"):
        for event in events:
            made = event
    assert made.done == 1
    again = plan_sweep(BASE, Axis("seed", (1,)), NO_AXIS)
    assert any(isinstance(event, Cell) for event in run_sweep(again, executor, "page"))


def test_table_names_turbo():
    assert name_in({"model": "latte-world", "turbo": True}) == "latte-world-turbo"
    assert name_in({"model": "latte-world", "turbo": False}) == name_in({"model": "latte-world"})


def _until(true, seconds=30):
    """Wait for a condition. Fails after a while."""
    end = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if true():
            return
        end.wait(0.02)
    pytest.fail("it did not come true")
