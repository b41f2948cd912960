"""Windows over time: what they cover, how they are blended, and what the engine makes of them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_folder import FRAMES
from tiny_requests import ask, same

from latte_core import Cancelled, RequestError, Step, preset
from latte_core.diffusion.guidance import Conditions
from latte_core.engine.windows import (
    Window,
    in_windows,
    plan_windows,
    possible_lengths,
    possible_tempos,
)

CONFIG = preset("S/2", sample_size=16, depth=2)  # 16 frames
ROPE = preset("S/2", sample_size=16, depth=2, temporal_positions="rope")
TUBES = preset("S/2", sample_size=16, depth=2, patch_frames=4)
NOTHING = Conditions(None, None, 1.0)
LONG = FRAMES + 5


@pytest.mark.parametrize("frames", [17, 24, 25, 32, 47, 64])
@pytest.mark.parametrize("config", [CONFIG, ROPE], ids=["absolute", "rope"])
def test_windows_cover_a_clip_and_share_half(config, frames):
    windows = plan_windows(frames, config, "steady")
    assert windows[0].start == 0
    assert windows[-1].stop == frames
    assert all(window.stop - window.start == 16 for window in windows)
    assert all(0 < b.start - a.start <= 8 for a, b in pairwise(windows))
    assert all(window.positions is None for window in windows)


@pytest.mark.parametrize("frames", [17, 32, 64])
def test_stretched_positions_go_evenly_from_the_first_trained_to_the_last(frames):
    spread = np.linspace(0, 15, frames)
    for window in plan_windows(frames, CONFIG, "stretch"):
        assert np.allclose(window.positions, spread[window.start : window.stop])


def test_tubes_are_never_cut():
    for window in plan_windows(28, TUBES, "stretch"):
        assert window.start % 4 == 0
        assert len(window.positions) == 4


def test_what_fits_in_one_pass_is_one_plain_window():
    assert plan_windows(16, CONFIG, None) == (Window(0, 16),)


def test_lengths_and_tempos_follow_the_positions():
    assert possible_lengths(CONFIG) == (1, *range(16, 65))
    assert possible_lengths(TUBES) == tuple(range(16, 65, 4))
    assert possible_lengths(ROPE) == tuple(range(1, 65))
    assert possible_tempos(CONFIG, {}) == ("steady", "stretch")
    assert possible_tempos(CONFIG, {"world": {}}) == ("stretch", "steady")
    assert possible_tempos(ROPE, {"world": {}}) == ("steady",)


def test_blending_equal_outputs_changes_nothing():
    latents = torch.randn(1, 4, 37, 2, 2, generator=torch.Generator().manual_seed(1))
    windows = plan_windows(37, CONFIG, "steady")
    out = in_windows(windows, latents, NOTHING, lambda x, told, count, places: 3 * x)
    assert torch.allclose(out, 3 * latents, atol=1e-5)


def test_outputs_that_differ_are_faded_into_each_other():
    """Each window answers its own number; side by side the steps would be of size 1."""
    windows = plan_windows(32, CONFIG, "steady")
    numbers = iter(range(len(windows)))

    def network(x, told, count, places):
        return torch.full_like(x, next(numbers))

    out = in_windows(windows, torch.zeros(1, 1, 32, 1, 1), NOTHING, network).flatten()
    assert (out[0], out[-1]) == (0, len(windows) - 1)
    steps = out.diff()
    assert (steps >= 0).all()
    assert steps.max() < 0.25


def test_stills_come_along_once_with_what_they_are_told():
    seen = []

    def network(x, told, count, places):
        seen.append((x.shape[2], count, told.labels.tolist()))
        return x

    latents = torch.arange(26.0).view(1, 1, 26, 1, 1)
    conditions = Conditions(None, None, 1.0, torch.tensor([[5, 6, 7]]))
    out = in_windows(plan_windows(24, CONFIG, "steady"), latents, conditions, network)
    assert torch.allclose(out, latents)
    assert seen == [(18, 2, [[5, 6, 7]]), (16, 0, [[5]])]


def test_long_clip_with_stills_equals_clip_and_stills_alone(engine):
    joint = engine.generate(ask(num_frames=LONG, mode="joint", num_images=2))
    alone = engine.generate(ask(num_frames=LONG))
    stills = engine.generate(ask(num_frames=LONG, mode="image", num_images=2))
    assert alone.frames.shape[0] == LONG
    assert np.array_equal(joint.latents, alone.latents)
    assert all(map(np.array_equal, joint.stills, stills.stills))


def test_long_clip_is_made_again_from_its_recipe_and_differs_by_tempo(engine):
    steady = engine.generate(ask(num_frames=LONG))
    assert steady.recipe["tempo"] == "steady"
    assert same(steady, engine.generate(ask(num_frames=LONG, tempo="steady")))
    stretched = engine.generate(ask(num_frames=LONG, tempo="stretch"))
    assert not np.allclose(stretched.latents, steady.latents, atol=1e-3)


def test_trained_length_has_no_tempo(engine):
    plain = engine.generate(ask())
    assert plain.recipe["tempo"] is None
    assert same(plain, engine.generate(ask(tempo="stretch")))


def test_network_runs_once_a_window_and_a_plan_skips_all_windows(engine):
    calls = []
    handle = engine._pipeline.parts.transformer.register_forward_pre_hook(
        lambda module, inputs: calls.append(inputs[0].shape[2])
    )
    try:
        engine.generate(ask(num_frames=LONG, num_inference_steps=8))
        full = len(calls)
        engine.generate(ask(num_frames=LONG, num_inference_steps=8, plan="alternate"))
    finally:
        handle.remove()
    windows = plan_windows(LONG, engine._pipeline.parts.transformer.config, "steady")
    assert set(calls) == {FRAMES}
    assert full == 8 * len(windows)
    assert 0 < len(calls) - full < full


def test_long_clip_shows_all_frames_at_every_step_and_stops_between_windows(engine):
    job = engine.submit(ask(num_frames=LONG, num_inference_steps=100))
    events = job.events()
    with pytest.raises(Cancelled):
        for event in events:
            if isinstance(event, Step):
                assert event.preview.shape[0] == LONG
                if event.index == 2:
                    job.cancel()


@pytest.mark.parametrize("frames", [2, FRAMES - 1, 65])
def test_other_lengths_are_refused_with_limit_and_remedy(engine, frames):
    with pytest.raises(RequestError) as caught:
        engine.generate(ask(num_frames=frames))
    assert caught.value.field == "num_frames"
    assert "64" in str(caught.value)


def test_unknown_tempo_is_refused():
    with pytest.raises(RequestError, match="stretch, steady"):
        ask(tempo="fast")
