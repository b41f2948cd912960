"""A model folder may name the step plan that requests get which name none."""

import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image
from tiny_folder import FRAMES, SIZE
from tiny_requests import ask, count_rows, same

from latte_core import Encoded, Engine, load_picture
from latte_core.checkpoints import (
    Defaults,
    PreviewMap,
    build_manifest,
    read_manifest,
    write_manifest,
)
from latte_core.cli import main
from latte_core.diffusion.step_plan import BUILT_IN, PlannedStep, StepPlan, full
from latte_core.engine.plan_book import write_plans

STEPS = 6
OWN = Defaults(STEPS, 2.5, FRAMES, SIZE, SIZE, 8, "ddim", "budget-50")
GREY = PreviewMap(weight=((0.0, 0.0, 0.0),) * 4, bias=(0.2, 0.4, 0.6))
MIXED = (*full(2).steps, PlannedStep("reuse", (2, -1)), PlannedStep("both", (), (1.2, -0.2)))
PLAN = StepPlan("budget-50", (*MIXED, PlannedStep("reuse", (1,)), PlannedStep("reuse", (1,))))


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory):
    """The tiny folder with a plan for its default steps, which its manifest names."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("planned") / "tiny")
    write_manifest(folder, build_manifest(folder, OWN, GREY, {}))
    write_plans(folder, folder / "step_plans.json", {("ddim", STEPS): {"budget-50": PLAN}}, {})
    return folder


@pytest.fixture(scope="module")
def planned(folder):
    with Engine.load(folder) as loaded:
        yield loaded


@pytest.fixture
def rows(planned, monkeypatch):
    """The rows of every call of the network."""
    return count_rows(planned, monkeypatch)


def told(engine, request):
    """The event that names the plan, and what was made."""
    events = list(engine.stream(request))
    return next(e for e in events if isinstance(e, Encoded)), events[-1].generation


def test_a_request_without_a_plan_gets_the_models_own(planned, rows):
    own, made = told(planned, ask(num_inference_steps=None))
    assert sum(rows) == PLAN.rows < 2 * STEPS
    assert (own.plan, own.missing_plan, made.recipe["plan"]) == ("budget-50", "", "budget-50")
    assert same(made, planned.generate(ask(num_inference_steps=STEPS, plan="budget-50")))
    assert planned.describe().default_share == PLAN.share


def test_full_leaves_nothing_out(planned, tiny_folder, rows):
    every, made = told(planned, ask(num_inference_steps=STEPS, plan="full"))
    assert (rows, every.plan, every.missing_plan) == ([2] * STEPS, "full", "")
    with Engine.load(tiny_folder) as plain:
        as_before = ask(num_inference_steps=STEPS, guidance_scale=2.5)
        assert same(made, plain.generate(as_before))


@pytest.mark.parametrize(
    "other",
    [
        {"num_inference_steps": 5},
        {"scheduler": "unipc"},
        {"mode": "joint", "num_images": 1},
        {"height": 2 * SIZE},
        {"num_frames": FRAMES + 2},
        {"first_frame": load_picture(Image.new("RGB", (SIZE, SIZE), "red"), SIZE, SIZE)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_where_the_plan_was_not_found_all_is_done_and_said(planned, rows, other):
    fields = {"num_inference_steps": STEPS, **other}
    event, made = told(planned, ask(**fields))
    windows, left = divmod(len(rows), fields["num_inference_steps"])
    assert windows and not left and set(rows) == {2}
    assert (event.plan, event.missing_plan) == ("full", "budget-50")
    assert made.recipe["plan"] == "full"
    rows.clear()
    planned.generate(ask(plan="alternate", **fields))
    assert sum(rows) == windows * BUILT_IN["alternate"](fields["num_inference_steps"]).rows


def test_turbo_has_no_use_for_the_plan(planned):
    parts = replace(planned._pipeline.parts, turbo=planned._pipeline.parts.transformer)
    asked = ask(turbo=True, num_inference_steps=None)
    assert parts.defaults_for(asked).plan == "full" and parts.missing_plan(asked) == "budget-50"


def test_the_command_line_says_which_plan_it_follows(folder, tmp_path, capsys):
    def said(*options):
        target = str(tmp_path / "clip.mp4")
        command = ["generate", "a red rocket flies", "--model", str(folder), "--out", target]
        assert main([*command, "--seed", "1", *options]) == 0
        return capsys.readouterr().err

    assert "Step plan budget-50." in said()
    assert "step plan budget-50 was not found for these settings" in said("--steps", "5")
    assert "plan" not in said("--plan", "full").partition("free")[2].lower()


def test_a_manifest_without_the_field_means_all_of_the_work(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "old")
    data = json.loads((copy / "latte_manifest.json").read_text())
    assert data["defaults"].pop("plan") == "budget-50"
    (copy / "latte_manifest.json").write_text(json.dumps(data))
    assert read_manifest(copy).defaults == replace(OWN, plan="full")


def test_the_models_own_plan_can_be_found_where_there_is_none_yet(tiny_folder, tmp_path, capsys):
    folder = shutil.copytree(tiny_folder, tmp_path / "tiny")
    write_manifest(folder, build_manifest(folder, OWN, GREY, {}))
    command = ["calibrate", str(folder), "--prompts", "1", "--every", "2", "--tries", "1"]
    assert main([*command, "--budgets", "0.5"]) == 0
    with Engine.load(folder) as engine:
        assert engine.describe().default_share == 0.5
