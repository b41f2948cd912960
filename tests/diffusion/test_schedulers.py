"""Schedulers by name, and the estimate of the final picture at every step."""

import diffusers
import pytest
import torch

from latte_core.diffusion.guidance import Conditions, guided, pair_labels, pair_prompts
from latte_core.diffusion.schedulers import SCHEDULERS, make_scheduler, predict_x0, reads_variance
from latte_core.errors import ConfigError, ShapeError

CONFIG = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "clip_sample": False,
    "timestep_spacing": "trailing",
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_names_stand_for_stock_classes(name):
    scheduler = make_scheduler(name, CONFIG)
    assert type(scheduler) is getattr(diffusers, SCHEDULERS[name].class_name)
    assert scheduler.config.timestep_spacing == "trailing"
    assert make_scheduler(name, CONFIG) is not scheduler


def test_unknown_names_are_refused_with_the_list():
    with pytest.raises(ConfigError, match=r"'magic'.*ddim, ddpm"):
        make_scheduler("magic", CONFIG)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_learned_variance_reaches_only_ddpm(name):
    scheduler = make_scheduler(name, {**CONFIG, "variance_type": "learned_range"})
    assert reads_variance(scheduler) == (name == "ddpm")


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_estimate_is_the_picture_for_a_model_that_is_right(name, prediction_type):
    """A perfect model's output gives back the picture at every step of every sampler."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.randn(1, 4, 2, 4, 4, generator=generator)
    noise = torch.randn(1, 4, 2, 4, 4, generator=generator)
    scheduler = make_scheduler(name, {**CONFIG, "prediction_type": "epsilon"})
    scheduler.set_timesteps(6)
    bars = scheduler.alphas_cumprod
    for timestep in scheduler.timesteps:
        low = int(timestep)
        share = float(timestep) - low
        bar = (1 - share) * bars[low] + share * bars[min(low + 1, 999)]
        model_input = bar.sqrt() * picture + (1 - bar).sqrt() * noise
        output = {
            "epsilon": noise,
            "v_prediction": bar.sqrt() * noise - (1 - bar).sqrt() * picture,
            "sample": picture,
        }[prediction_type]
        estimate = predict_x0(output, model_input, timestep, bars, prediction_type)
        torch.testing.assert_close(estimate, picture, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["ddim", "euler", "dpm++2m", "heun"])
def test_a_right_model_ends_at_the_picture(name):
    """Positive control of the loop: scale_model_input, step and estimate belong together."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.randn(1, 4, 1, 4, 4, generator=generator)
    scheduler = make_scheduler(name, CONFIG)
    scheduler.set_timesteps(8)
    latents = torch.randn(picture.shape, generator=generator) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, timestep)
        bar = scheduler.alphas_cumprod[int(timestep)]
        output = (seen - bar.sqrt() * picture) / (1 - bar).sqrt()
        estimate = predict_x0(output, seen, timestep, scheduler.alphas_cumprod, "epsilon")
        torch.testing.assert_close(estimate, picture, rtol=1e-3, atol=2e-3)
        latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
    assert (latents - picture).abs().max() < 0.05


def test_unknown_prediction_types_are_refused():
    ones = torch.ones(1, 4, 1, 2, 2)
    with pytest.raises(ConfigError, match="flow"):
        predict_x0(ones, ones, 10, torch.linspace(0.99, 0.01, 1000), "flow")


def test_a_config_that_no_scheduler_takes_is_a_sentence():
    with pytest.raises(ConfigError, match="does not suit ddim"):
        make_scheduler("ddim", {**CONFIG, "beta_schedule": "wavy"})


def test_guided_extrapolates_the_prediction_and_keeps_the_prompts_variance():
    output = torch.randn(2, 8, 1, 2, 2)
    conditions = Conditions(torch.zeros(2, 1, 1), None, 3.0)
    joined = guided(output, conditions, 4)
    torch.testing.assert_close(joined[:, :4], 3 * output[1:, :4] - 2 * output[:1, :4])
    assert torch.equal(joined[:, 4:], output[1:, 4:])


def test_without_guidance_the_output_stays():
    output = torch.randn(1, 8, 1, 2, 2)
    conditions = pair_prompts(torch.randn(1, 5, 3), None, 7.5)
    assert guided(output, conditions, 4) is output
    with pytest.raises(ShapeError):
        guided(torch.randn(2, 8, 1, 2, 2), conditions, 4)


def test_prompts_of_one_length_need_no_mask_and_others_get_a_real_one():
    prompt, negative = torch.randn(1, 3, 2), torch.randn(1, 5, 2)
    even = pair_prompts(prompt, negative[:, :3], 2.0)
    assert even.mask is None
    assert torch.equal(even.embeds, torch.cat([negative[:, :3], prompt]))
    odd = pair_prompts(prompt, negative, 2.0)
    assert odd.mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert torch.equal(odd.embeds[0], negative[0])
    assert torch.equal(odd.embeds[1, :3], prompt[0])


def test_spaced_ddim_equals_the_stock_one_where_distances_are_even():
    """Eleven steps lie 100 timesteps apart on a chain of 1001, from end to end."""
    config = {**CONFIG, "num_train_timesteps": 1001}
    stock = make_scheduler("ddim", {**config, "timestep_spacing": "leading"})
    stock.set_timesteps(10)
    spaced = make_scheduler("ddim", {**config, "timestep_spacing": "linspace"})
    assert type(spaced) is not type(stock)
    spaced.set_timesteps(11)
    assert spaced.timesteps.tolist() == [1000, *stock.timesteps.tolist()]
    generator = torch.Generator().manual_seed(0)
    ours = theirs = torch.randn(1, 4, 2, 4, 4, generator=generator)
    for timestep in stock.timesteps:
        output = torch.randn(ours.shape, generator=generator)
        theirs = stock.step(output, timestep, theirs, return_dict=False)[0]
        ours = spaced.step(output, timestep, ours, return_dict=False)[0]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_uneven_steps_of_ddim_end_where_the_next_begins():
    """A model that is right is followed along the chain's own noise levels to the picture."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.randn(1, 4, 1, 4, 4, generator=generator)
    noise = torch.randn(picture.shape, generator=generator)
    scheduler = make_scheduler("ddim", {**CONFIG, "timestep_spacing": "linspace"})
    scheduler.set_timesteps(7)
    bars = scheduler.alphas_cumprod
    latents = bars[999].sqrt() * picture + (1 - bars[999]).sqrt() * noise
    for timestep in scheduler.timesteps:
        bar = bars[timestep]
        expected = bar.sqrt() * picture + (1 - bar).sqrt() * noise
        torch.testing.assert_close(latents, expected, rtol=1e-3, atol=1e-3)
        latents = scheduler.step(noise, timestep, latents)[0]
    torch.testing.assert_close(latents, picture, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("fields", [{"clip_sample": True}, {"thresholding": True}])
def test_a_config_that_clips_keeps_the_stock_ddim(fields):
    config = {**CONFIG, "timestep_spacing": "linspace", **fields}
    assert type(make_scheduler("ddim", config)) is diffusers.DDIMScheduler


def test_labels_stand_beside_no_class_only_with_guidance():
    pair = pair_labels([3, 1, 4], 101, 7.0)
    assert pair.labels.tolist() == [[101, 101, 101], [3, 1, 4]]
    assert (pair.halves, pair.embeds, pair.guidance_scale) == (2, None, 7.0)
    alone = pair_labels([3], 101, 1.0)
    assert (alone.labels.tolist(), alone.halves) == ([[3]], 1)
    moved = pair.to("cpu", torch.float16)
    assert moved.labels.dtype == torch.int64
    assert Conditions(None, None, 1.0).halves == 1
