"""Every sampler in the engine, with learned variance and with velocity prediction."""

import numpy as np
import pytest
from tiny_folder import write_tiny_folder
from tiny_requests import ask

from latte_core import Engine, Step
from latte_core.diffusion.schedulers import SCHEDULERS


@pytest.fixture(scope="module")
def velocity(tmp_path_factory):
    fields = {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    folder = write_tiny_folder(tmp_path_factory.mktemp("velocity"), scheduler=fields)
    with Engine.load(folder) as loaded:
        yield loaded


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("kind", ["learned", "velocity"])
def test_every_scheduler_runs(request, kind, scheduler, steps):
    engine = request.getfixturevalue(kind)
    asked = ask(scheduler=scheduler, num_inference_steps=steps, guidance_scale=2.0)
    events = list(engine.stream(asked))
    last = [event for event in events if isinstance(event, Step)][-1]
    assert last.index == last.total >= steps
    made = events[-1].generation
    assert np.isfinite(made.latents).all()
    assert not np.array_equal(made.latents, made.initial_latents)


def test_learned_variance_is_used_by_ddpm_only(learned, engine):
    for scheduler in ("ddim", "dpm++2m", "euler"):
        with_it = learned.generate(ask(scheduler=scheduler))
        assert np.array_equal(with_it.latents, engine.generate(ask(scheduler=scheduler)).latents)
    with_it, without = (one.generate(ask(scheduler="ddpm")) for one in (learned, engine))
    assert not np.array_equal(with_it.latents, without.latents)
