"""Step plans in the engine: what really runs, in every mode and with every sampler."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_class_folder import write_tiny_class_folder
from tiny_requests import ask, count_rows, same

from latte_core import Engine, GenerationRequest, Inspection, RequestError, Step
from latte_core.diffusion.guidance import Conditions
from latte_core.diffusion.planned import PlannedOutputs
from latte_core.diffusion.schedulers import (
    SCHEDULERS,
    predict_noise,
    predict_x0,
    prediction_of_noise,
)
from latte_core.diffusion.step_plan import BOTH, BUILT_IN, PlannedStep, StepPlan, full, tabulate

STEPS = 12


@pytest.fixture
def rows(engine, monkeypatch):
    """The rows of every call of the transformer."""
    return count_rows(engine, monkeypatch)


def relative(one, other):
    return np.linalg.norm(one.latents - other.latents) / np.linalg.norm(other.latents)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_plan_runs_the_rows_that_its_table_names(engine, rows, name):
    made = engine.generate(ask(plan=name, num_inference_steps=STEPS))
    expected = [
        {"both": 2, "prompt": 1}.get(step.evaluation) for step in BUILT_IN[name](STEPS).steps
    ]
    assert rows == [count for count in expected if count]
    assert sum(rows) == BUILT_IN[name](STEPS).rows
    assert made.recipe["plan"] == name
    if name != "full":
        assert sum(rows) < 2 * STEPS


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"full"}))
def test_a_plan_changes_the_result_a_little(engine, name):
    whole = engine.generate(ask(num_inference_steps=STEPS))
    assert same(whole, engine.generate(ask(num_inference_steps=STEPS, plan="full")))
    planned = engine.generate(ask(num_inference_steps=STEPS, plan=name))
    other = engine.generate(ask(num_inference_steps=STEPS, seed=8))
    assert 0 < relative(planned, whole) < 0.25 * relative(other, whole)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_sampler_runs_a_plan(learned, monkeypatch, scheduler):
    calls = count_rows(learned, monkeypatch)
    made = learned.generate(
        ask(scheduler=scheduler, num_inference_steps=STEPS, plan="alternate-cache")
    )
    assert np.isfinite(made.latents).all()
    # Some samplers call the network twice a step; a plan has an entry for every call.
    longest = len(calls)
    assert {1, 2} == set(calls)
    calls.clear()
    learned.generate(ask(scheduler=scheduler, num_inference_steps=STEPS))
    assert longest < len(calls)


def test_stills_and_negative_prompts_go_by_the_same_plan(engine, rows):
    asked = {"num_inference_steps": STEPS, "negative_prompt": "a big blurry dog in the snow"}
    for mode in ("joint", "image"):
        made = engine.generate(ask(mode=mode, num_images=2, plan="alternate-cache", **asked))
        assert len(made.stills) == 2
        whole = engine.generate(ask(mode=mode, num_images=2, **asked))
        assert 0 < relative(made, whole) < 0.3
    assert sum(rows) == 2 * (2 * STEPS + BUILT_IN["alternate-cache"](STEPS).rows)
    clip = engine.generate(ask(plan="alternate-cache", **asked))
    joint = engine.generate(ask(mode="joint", num_images=2, plan="alternate-cache", **asked))
    assert np.array_equal(clip.frames, joint.frames)


def test_stills_with_prompts_of_their_own_go_by_the_plan_too(engine, rows):
    words = ("a blue cow in the forest at night", "")
    asked = {"mode": "joint", "num_images": 2, "image_prompts": words, "num_inference_steps": STEPS}
    whole = engine.generate(ask(**asked))
    made = engine.generate(ask(plan="alternate-cache", **asked))
    assert sum(rows) == 2 * STEPS + BUILT_IN["alternate-cache"](STEPS).rows
    one, other = (np.stack(result.stills).astype(float) for result in (made, whole))
    assert np.abs(one - other).mean() < 0.3 * np.abs(other[0] - other[1]).mean()


def test_without_guidance_only_whole_steps_are_left_out(engine, rows):
    asked = {"guidance_scale": 1.0, "num_inference_steps": STEPS}
    whole = engine.generate(ask(**asked))
    assert same(whole, engine.generate(ask(plan="guidance-cache", **asked)))
    assert rows == [1] * 2 * STEPS
    rows.clear()
    engine.generate(ask(plan="alternate", **asked))
    assert rows == [1] * BUILT_IN["alternate"](STEPS).calls


def test_class_models_run_plans(tmp_path, monkeypatch):
    with Engine.load(write_tiny_class_folder(tmp_path / "classes")) as loaded:
        calls = count_rows(loaded, monkeypatch)
        asked = GenerationRequest(
            class_label=1, seed=3, num_inference_steps=STEPS, mode="joint", num_images=2
        )
        loaded.generate(asked)
        loaded.generate(replace(asked, plan="alternate-cache"))
    assert sum(calls) == 2 * STEPS + BUILT_IN["alternate-cache"](STEPS).rows


def test_unknown_plans_are_refused_with_the_names(engine):
    with pytest.raises(RequestError, match=r"budget-50.*full, interval, .*calibrate") as caught:
        engine.generate(ask(plan="budget-50"))
    assert caught.value.field == "plan"


def test_the_engine_tells_its_plans_and_the_nearest_to_a_budget(engine):
    info = engine.describe()
    assert info.plans == tuple(BUILT_IN)
    shares = info.plan_shares("ddim", 20)
    assert shares == {name: make(20).share for name, make in BUILT_IN.items()}
    assert info.nearest_plan(1.0) == "full"
    assert info.nearest_plan(0.0) == min(shares, key=shares.get)
    with pytest.raises(RequestError, match="from 0 to 1"):
        info.nearest_plan(1.5)


def test_a_step_that_a_plan_leaves_out_can_be_looked_into(engine):
    plan = BUILT_IN["alternate-cache"](STEPS)
    for wanted in ("reuse", "prompt"):
        step = [s.evaluation for s in plan.steps].index(wanted) + 1
        asked = Inspection(
            ask(plan="alternate-cache", num_inference_steps=STEPS), step=step, places=(0,)
        )
        found = list(engine.submit(asked).events())[-1]
        assert found.step == step and found.blocks[0].space is not None


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_predictions_and_noise_turn_into_each_other(kind):
    """The noise that is left when the estimate of the picture is taken away, and back again."""
    levels = torch.linspace(0.9999, 0.01, 1000)
    seen, prediction = torch.randn(2, 1, 4, 2, 3, 3, dtype=torch.float64).unbind()
    for timestep in (0, 1, 500, 999):
        picture = predict_x0(prediction, seen, timestep, levels, kind)
        noise = predict_noise(prediction, seen, timestep, levels, kind)
        level = float(levels[timestep])
        assert torch.allclose(level**0.5 * picture + (1 - level) ** 0.5 * noise, seen)
        again = prediction_of_noise(noise, seen, timestep, levels, kind)
        assert torch.allclose(again, prediction, atol=1e-6)


class Line:
    """A network whose noise moves along a line, and its guidance difference along another."""

    def __init__(self, levels):
        self.levels = levels
        self.noise, self.slope, self.away = torch.randn(3, 1, 4, 2, 3, 3)
        self.rows = []

    def output(self, index, seen, timestep, conditions):
        self.rows.append(conditions.halves)
        prompt = self.noise + index * self.slope
        noises = [prompt - (1 + index) * self.away, prompt][-conditions.halves :]
        made = [prediction_of_noise(n, seen, timestep, self.levels, "v_prediction") for n in noises]
        return torch.cat([torch.cat(made), torch.ones(len(made), 4, 2, 3, 3)], dim=1)


def run(plan, network, scale=3.0):
    conditions = Conditions(torch.zeros(2, 5, 8), None, scale)
    outputs = PlannedOutputs(
        plan, conditions, SimpleNamespace(alphas_cumprod=network.levels), "v_prediction"
    )
    made, seen = [], torch.linspace(-1, 1, 72).reshape(1, 4, 2, 3, 3)
    for index in range(len(plan.steps)):
        timestep = torch.tensor(900 - 100 * index)
        made.append(
            outputs.at(
                index,
                seen,
                timestep,
                lambda c, i=index, t=timestep: network.output(i, seen, t, c),
            )
        )
    return made, outputs


def _noise(output, network, index):
    """The noise that an output of step `index` stands for."""
    seen = torch.linspace(-1, 1, 72).reshape(1, 4, 2, 3, 3)
    at = torch.tensor(900 - 100 * index)
    return predict_noise(output[:, :4], seen, at, network.levels, "v_prediction")


def test_extrapolation_is_exact_where_it_should_be():
    """Noise and differences on lines: order 1 meets them, order 0 does not."""
    torch.manual_seed(0)
    network = Line(torch.linspace(0.9999, 0.01, 1000))
    exact, outputs = run(full(6), network)
    assert outputs.held_bytes == 0
    line = StepPlan(
        "line",
        (*full(2).steps, PlannedStep("prompt", (2, -1)), PlannedStep("reuse", (2, -1))),
    )
    planned, outputs = run(line, network)
    assert network.rows[-3:] == [2, 2, 1]
    for one, other in zip(planned, exact, strict=False):
        assert torch.allclose(one, other, atol=1e-4)
    shape = (1, 4, 2, 3, 3)
    assert outputs.held_bytes == line.extra_bytes(shape, learned_variance=True)
    # The noise of step 2 on the line of steps 0 and 1, told by those of 0, 1 and 3.
    mixed = StepPlan("mixed", (*full(3).steps, PlannedStep("both", (), (0.5, 0, 0.5))))
    made, outputs = run(mixed, network)
    assert torch.allclose(_noise(made[3], network, 3), _noise(exact[2], network, 2), atol=1e-4)
    assert outputs.held_bytes == mixed.extra_bytes(shape, learned_variance=True)
    constant = tabulate("constant", ["both", "both", "prompt", "reuse"], order=0)
    for index in (2, 3):
        assert not torch.allclose(run(constant, network)[0][index], exact[index], atol=1e-2)


def test_what_a_plan_mixes_in_is_not_shown(engine, monkeypatch):
    """It leads the latents; the picture on the stage is what the network itself makes of them."""
    half = STEPS // 2
    entries = [BOTH] * STEPS
    shown, latents = {}, {}
    for name, mix in (("calm", (1.0, 0.0)), ("wild", (9.0, -8.0))):
        entries[half - 1] = PlannedStep("both", mix=mix)
        plan = StepPlan(name, tuple(entries))
        monkeypatch.setattr(type(engine._pipeline.parts.plans), "find", lambda *_, plan=plan: plan)
        events = list(engine.stream(ask(num_inference_steps=STEPS)))
        shown[name] = [event.preview for event in events if isinstance(event, Step)]
        latents[name] = events[-1].generation.latents
    assert np.array_equal(shown["calm"][: half + 1], shown["wild"][: half + 1])
    assert not np.array_equal(shown["calm"][half + 1], shown["wild"][half + 1])
    assert not np.allclose(latents["calm"], latents["wild"])
