"""Calibration on a real run of a small model, its command, and the file that it leaves."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny_requests import ask, count_rows

from latte_core import CheckpointError, Engine, RequestError
from latte_core.calibration.follow import blank, evenly, follow, improve, neighbours
from latte_core.calibration.samples import draw_samples
from latte_core.calibration.trajectory import final_error, gather_facts, record
from latte_core.checkpoints import model_hash
from latte_core.cli import main
from latte_core.diffusion.step_plan import BUILT_IN, StepPlan, from_text, full, to_text
from latte_core.engine.plan_book import SHIPPED, plan_key, read_plans, write_plans

STEPS = 6


@pytest.fixture(scope="module")
def calibrated(tiny_folder, tmp_path_factory):
    """A folder of its own with the plans that the command found for it."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("calibrated") / "tiny")
    before = model_hash(folder)
    command = ["calibrate", str(folder), "--steps", str(STEPS), "--prompts", "1", "--tries", "2"]
    assert main([*command, "--budgets", "0.7,0.4", "--every", "2"]) == 0
    assert model_hash(folder) == before
    return folder


@pytest.fixture(scope="module")
def engine(calibrated):
    with Engine.load(calibrated) as loaded:
        yield loaded


def test_a_recorded_run_is_the_run(engine):
    pipeline = engine._pipeline
    parts = pipeline.parts
    request = ask(num_inference_steps=STEPS).resolve(parts.defaults, parts.clip_lengths)
    run = record(pipeline, request)
    made = engine.generate(ask(num_inference_steps=STEPS))
    assert np.array_equal(run.latents, made.latents)
    assert run.noises.shape == run.differences.shape == (STEPS, made.latents.size)
    assert final_error(pipeline, run, full(STEPS)) == 0
    assert final_error(pipeline, run, full(STEPS), begin=3) == 0
    plan = BUILT_IN["alternate-cache"](STEPS)
    planned = engine.generate(ask(num_inference_steps=STEPS, plan="alternate-cache")).latents
    expected = np.square(planned.astype(float) - made.latents).mean()
    assert final_error(pipeline, run, plan) == pytest.approx(expected, rel=1e-6)
    told = gather_facts(pipeline, [run], 2, 7.5)
    assert told.noise.shape == (STEPS, STEPS) and (told.weight > 0).all()
    first = run.noises[0].double().numpy()
    assert told.noise[0, 0] == pytest.approx(np.square(first).mean())


def test_followed_plans_leave_the_error_that_they_say_and_less_than_plain_ones(engine):
    pipeline = engine._pipeline
    parts = pipeline.parts
    asked = [ask(num_inference_steps=STEPS, seed=seed) for seed in (7, 8)]
    runs = [record(pipeline, one.resolve(parts.defaults, parts.clip_lengths)) for one in asked]
    for name in ("alternate-cache", "guidance-cache"):
        plain = BUILT_IN[name](STEPS)
        fitted, error = follow(pipeline, runs, plain)
        assert [s.evaluation for s in fitted.steps] == [s.evaluation for s in plain.steps]
        assert any(step.mix for step in fitted.steps)
        again = StepPlan(name, tuple(from_text(to_text(step)) for step in fitted.steps))
        left = [sum(final_error(pipeline, run, p) for run in runs) / 2 for p in (again, plain)]
        assert error == pytest.approx(left[0], rel=1e-2)
        assert left[0] < 0.8 * left[1]
    assert follow(pipeline, runs, full(STEPS))[1] < 1e-9


@pytest.mark.parametrize("scheduler", ["dpm++2m", "heun", "euler-a", "ddpm"])
def test_plans_of_other_samplers_are_followed(engine, scheduler):
    pipeline = engine._pipeline
    parts = pipeline.parts
    request = ask(num_inference_steps=STEPS, scheduler=scheduler)
    run = record(pipeline, request.resolve(parts.defaults, parts.clip_lengths))
    plain = BUILT_IN["alternate"](len(run.states))
    fitted, error = follow(pipeline, [run], plain)
    assert error < final_error(pipeline, run, plain)
    assert error == pytest.approx(final_error(pipeline, run, fitted), rel=1e-3)


@pytest.mark.parametrize("total,rows", [(20, 10), (20, 11), (6, 4), (3, 1), (5, 10), (20, 40)])
def test_even_tables_have_the_rows_that_are_asked_for(total, rows):
    plan = evenly("even", total, rows)
    evaluated = [n for n, step in enumerate(plan.steps) if step.evaluation == "both"]
    assert evaluated[0] == 0 and len(plan.steps) == total and plan.rows == max(2, rows)
    gaps = [b - a for a, b in itertools.pairwise(evaluated)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_neighbours_are_tables_of_the_same_work():
    letters = ("both", "prompt", "reuse", "both", "reuse", "prompt")
    rows = {"both": 2, "prompt": 1, "reuse": 0}
    found = neighbours(letters)
    assert len(found) == len(set(found)) and letters not in found
    assert all(sum(rows[one] for one in other) == 6 and other[0] == "both" for other in found)
    assert ("both", "prompt", "reuse", "prompt", "prompt", "prompt") in found
    start, best = (StepPlan("x", tuple(map(blank, table))) for table in (letters, found[3]))
    attempt = lambda plan: (plan, float(plan != best))  # noqa: E731
    assert improve(start, 1.0, 100, attempt) == (best, 0.0)
    assert improve(start, 1.0, 0, attempt) == (start, 1.0)


def test_the_engine_offers_what_was_found(engine, monkeypatch):
    info = engine.describe()
    shares = info.plan_shares("ddim", STEPS)
    assert list(shares) == [*BUILT_IN, "budget-70", "budget-40"]
    assert shares["budget-40"] <= 0.4 < shares["budget-70"] <= 0.7
    assert "budget-40" not in info.plans  # the default is another number of steps
    assert info.nearest_plan(0.4, "ddim", STEPS) == "budget-40"
    rows = count_rows(engine, monkeypatch)
    made = engine.generate(ask(num_inference_steps=STEPS, plan="budget-40"))
    assert sum(rows) == round(shares["budget-40"] * 2 * STEPS)
    assert made.recipe["plan"] == "budget-40"
    with pytest.raises(RequestError, match="with 5 steps has: full"):
        engine.generate(ask(num_inference_steps=5, plan="budget-40"))


def test_other_settings_in_the_file_stay(calibrated, tmp_path):
    path = tmp_path / "plans.json"
    write_plans(calibrated, path, {("ddim", 9): {"mine": full(9)}}, {})
    write_plans(calibrated, path, {("unipc", 4): {"mine": full(4)}}, {})
    settings = [
        (t["scheduler"], t["num_inference_steps"]) for t in json.loads(path.read_text())["tables"]
    ]
    assert settings == [("ddim", 9), ("unipc", 4)]


@pytest.mark.parametrize(
    "change,words",
    [
        ({"made_for": "0" * 12}, "other weights"),
        ({"format": 9}, "damaged"),
        ({"tables": [{}]}, "damaged"),
        ({"tables": None}, "damaged"),
        (
            {
                "tables": [
                    {
                        "scheduler": "ddim",
                        "num_inference_steps": 1,
                        "plans": {"x": {"steps": ["reuse 1"]}},
                    }
                ]
            },
            "damaged .*reads 1 remembered",
        ),
    ],
)
def test_damaged_files_and_those_of_other_weights_are_refused(calibrated, tmp_path, change, words):
    folder = tmp_path / "model"
    for part in ("transformer", "scheduler"):
        shutil.copytree(calibrated / part, folder / part)
    data = json.loads((calibrated / "step_plans.json").read_text())
    (folder / "step_plans.json").write_text(json.dumps({**data, **change}))
    with pytest.raises(CheckpointError, match=words):
        read_plans(folder)


def test_a_model_that_this_repository_ships_has_its_plans_beside_it():
    folder = SHIPPED.parent / "latte-world"
    book = read_plans(folder)
    assert not (folder / "step_plans.json").exists()
    assert (SHIPPED / f"{plan_key(folder)}.json").is_file()
    for steps in (20, 50):
        shares = book.shares("ddim", steps)
        assert shares["budget-50"] <= 0.5 and shares["budget-25"] <= 0.25


@pytest.mark.parametrize("budgets", ["", "0", "1", "a", "0.5,2"])
def test_budgets_are_shares(capsys, budgets):
    assert main(["calibrate", "anything", "--budgets", budgets]) == 2
    assert "between 0 and 1" in capsys.readouterr().err


def test_every_kind_of_model_is_asked_for_what_it_reads(engine):
    info = engine.describe()
    text = draw_samples(info, 3, 1, {"num_inference_steps": 4})
    assert len({one.request.prompt for one in text}) == 3 and text[0].spec is None
    classes = replace(info, conditioning="class", classes=("a", "b", "c"))
    assert {one.request.class_label for one in draw_samples(classes, 9, 1, {})} <= {0, 1, 2}
    nothing = draw_samples(replace(info, conditioning="none"), 2, 1, {})
    assert [one.request.seed for one in nothing] == [1, 2]
    world = {"subjects": ["cat", "frog"], "motions": ["left", "up"], "scenes": ["plain", "night"]}
    of_world = draw_samples(replace(info, card={"world": world}), 2, 1, {})
    assert all(one.spec is not None and one.request.prompt for one in of_world)
    paired = replace(info, card={"world": {**world, "compositions": ["pair"]}})
    assert 3 < sum(bool(one.spec.partner) for one in draw_samples(paired, 30, 1, {})) < 25
