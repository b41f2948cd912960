"""Distillation: the student's grid and steps are diffusers' own, its goal is the teacher's walk."""

import copy
from itertools import pairwise

import pytest
import torch
from tiny_training import tiny_recipe_data

from latte_core import Engine, GenerationRequest, checkpoints
from latte_core.data.latents import load_clips
from latte_core.diffusion.loss import DiffusionLoss
from latte_core.errors import ConfigError, DataError, RequestError
from latte_core.training import stages
from latte_core.training.recipe import parse_recipe
from latte_core.training.turbo import CLEAN, Chain, between, trailing_steps

PROMPT = "a cat moves left at night"


def diffusers_ddim(steps):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("steps", [1, 4, 5, 8, 10])
def test_the_grid_is_the_one_that_the_engine_samples_on(steps):
    assert trailing_steps(steps) == [*diffusers_ddim(steps).timesteps.tolist(), CLEAN]


@pytest.mark.parametrize("steps", [0, 3, 7])
def test_uneven_grids_are_refused(steps):
    with pytest.raises(ConfigError, match="divide 1000"):
        trailing_steps(steps)


def test_a_step_is_diffusers_own():
    objective, scheduler = DiffusionLoss("v_prediction"), diffusers_ddim(8)
    chain, generator = Chain(objective), torch.Generator().manual_seed(0)
    x, v = torch.randn((2, 2, 4, 3, 2, 2), generator=generator)
    for now, then in pairwise(trailing_steps(8)):
        at = torch.tensor([now, now])
        picture = objective.predict_x0(v, x, at)
        ours = chain.step(x, picture, at, torch.tensor([then, then]))
        stock = scheduler.step(v, now, x).prev_sample
        torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-4)


def test_the_wanted_picture_leads_to_the_goal():
    chain, generator = Chain(DiffusionLoss()), torch.Generator().manual_seed(1)
    x, goal = torch.randn((2, 3, 4, 2, 2, 2), generator=generator)
    now, then = torch.tensor([999, 499, 124]), torch.tensor([874, 374, CLEAN])
    picture = chain.picture_that_leads(x, goal, now, then)
    torch.testing.assert_close(chain.step(x, picture, now, then), goal, rtol=1e-4, atol=1e-4)
    assert (chain.step(x, goal, now, then) - goal).abs().max() > 0.1


def test_stops_between_are_even_and_end_where_they_should():
    assert between(999, 874, 2) == [999, 936, 874]
    assert between(124, CLEAN, 5) == [124, 99, 74, 49, 24, -1]


@pytest.fixture(scope="module")
def task(bundle):
    """A task on the tiny run, whose teacher's prompts matter."""
    run = stages.Run(parse_recipe(tiny_recipe_data()), bundle.parent, {"device": "cpu"})
    encoder = stages.make_text_encoder(run.recipe)
    torch.manual_seed(0)
    teacher = stages.new_text_to_video(run.recipe, encoder)
    for parameter in teacher.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return stages.turbo_task(run, teacher, encoder, load_clips(bundle.parent / stages.CLIPS))


def loss_of(task, **changes):
    task = copy.copy(task)
    for name, value in changes.items():
        setattr(task, name, value)
    loss, _ = task.loss(task.model, task.batches[0], torch.Generator().manual_seed(5))
    return float(loss.detach())


@pytest.mark.parametrize("states", ["noised", "own"])
def test_a_copy_is_right_only_without_guidance_and_with_one_substep(task, states):
    assert loss_of(task, states=states, guidance_scale=1.0, substeps=1) < 1e-6
    assert loss_of(task, states=states, guidance_scale=4.0, substeps=1) > 1e-4
    assert loss_of(task, states=states, guidance_scale=1.0, substeps=3) > 1e-6


def test_on_its_own_path_the_student_stands_where_its_steps_led_it(task):
    stood = []

    def watched(x, timesteps, batch, images):
        stood.append((x.detach(), timesteps))
        return task.model(x, timesteps, batch, images)

    task = copy.copy(task)
    task.states = "own"
    task.loss(watched, task.batches[0], torch.Generator().manual_seed(5))
    assert [int(t[0]) for _, t in stood] == task.grid[:-1]
    batch = task.batches[0]
    x = torch.randn(batch["latents"].shape, generator=torch.Generator().manual_seed(5))
    for (seen, now), then in zip(stood, task.grid[1:], strict=True):
        torch.testing.assert_close(seen, x)
        v = task.model(x, now, batch, task.batches.images)[:, : x.shape[1]].detach()
        picture = task.objective.predict_x0(v, x, now)
        x = task.chain.step(x, picture, now, torch.full_like(now, then))
    changed = {**batch, "latents": batch["latents"] + 1}
    same = [
        float(task.loss(task.model, b, torch.Generator().manual_seed(5))[0].detach())
        for b in (batch, changed)
    ]
    assert same[0] == same[1]  # the clips themselves play no part


@pytest.mark.parametrize("states", ["noised", "own"])
def test_the_student_alone_learns_and_comes_nearer(task, states):
    task = copy.copy(task)
    task.states = states
    task.model = copy.deepcopy(task.model)
    before = copy.deepcopy(task.model.text_encoder.state_dict())
    teacher = copy.deepcopy(task.teacher.state_dict())
    learn = [p for p in task.model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.Adam(learn, 1e-3), []
    for _ in range(12):
        loss, _ = task.loss(task.model, task.batches[0], torch.Generator().manual_seed(5))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    torch.testing.assert_close(task.model.text_encoder.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(task.teacher.state_dict(), teacher, rtol=0, atol=0)


def test_nothing_to_distil_is_said(tmp_path):
    run = stages.Run(parse_recipe(tiny_recipe_data()), tmp_path, {"device": "cpu"})
    with pytest.raises(DataError, match="train video first"):
        stages.train_turbo(run)


def test_the_bundle_holds_the_student_and_the_engine_runs_it(bundle):
    checkpoints.verify_folder(bundle, checkpoints.read_manifest(bundle))
    with Engine.load(bundle) as engine:
        assert engine.describe().turbo
        fast = engine.generate(GenerationRequest(PROMPT, seed=1, turbo=True))
        assert fast.recipe["num_inference_steps"] == 4 and fast.recipe["guidance_scale"] == 1.0
        same = {"seed": 1, "num_inference_steps": 4, "guidance_scale": 1.0}
        full = engine.generate(GenerationRequest(PROMPT, **same))
        assert abs(full.latents - fast.latents).max() > 0
        again = engine.generate(GenerationRequest(PROMPT, seed=1, turbo=True))
        assert (again.latents == fast.latents).all()


def test_turbo_is_refused_where_there_is_none(tiny_folder):
    with Engine.load(tiny_folder) as engine:
        assert not engine.describe().turbo
        with pytest.raises(RequestError, match="no turbo transformer"):
            engine.submit(GenerationRequest("a red cow", turbo=True))


@pytest.mark.parametrize(
    ("field", "value"),
    [("guidance_scale", 2.5), ("negative_prompt", "blurry"), ("plan", "interval"), ("turbo", 1)],
)
def test_what_turbo_cannot_do_is_refused(field, value):
    with pytest.raises(RequestError) as error:
        GenerationRequest(PROMPT, **{"turbo": True, field: value})
    assert error.value.field == field
