"""Stills with prompts of their own beside a clip, on the tiny random model."""

import numpy as np
import pytest
import torch
from tiny_requests import PROMPT, ask

from latte_core import Encoded, RequestError
from latte_core.diffusion.guidance import join_prompts, pair_prompts

OWN = ("a blue cow jumps", "", "a big old yellow boat")


@pytest.mark.parametrize("fields", [{}, {"guidance_scale": 1}, {"negative_prompt": "rain"}])
def test_each_still_follows_its_prompt_and_the_clip_keeps_its(engine, fields):
    clip = engine.generate(ask(**fields))
    joint = engine.generate(ask(mode="joint", image_prompts=OWN, **fields))
    np.testing.assert_allclose(joint.latents, clip.latents, atol=2e-4)
    for index, own in enumerate(OWN):
        alone = engine.generate(ask(own or PROMPT, mode="image", num_images=3, **fields))
        np.testing.assert_allclose(
            joint.stills[index].astype(int), alone.stills[index].astype(int), atol=1
        )
    plain = engine.generate(ask(mode="joint", num_images=3, **fields))
    differ = [(a != b).any() for a, b in zip(joint.stills, plain.stills, strict=True)]
    assert differ[0] and differ[2]


def test_image_mode_takes_own_prompts_too_and_the_recipe_holds_them(engine):
    made = engine.generate(ask(mode="image", image_prompts=OWN))
    alone = engine.generate(ask(OWN[0], mode="image"))
    np.testing.assert_allclose(made.stills[0].astype(int), alone.stills[0].astype(int), atol=1)
    assert tuple(made.recipe["image_prompts"]) == OWN and made.recipe["num_images"] == 3


def test_prompts_of_other_lengths_are_joined_behind_a_mask():
    one, two = torch.ones(1, 2, 5), torch.full((1, 4, 5), 2.0)
    joined = join_prompts([pair_prompts(one, two, 3.0), pair_prompts(two, two, 3.0)])
    assert joined.embeds.shape == (2, 2, 4, 5) and joined.halves == 2
    assert joined.mask.sum(-1).tolist() == [[4, 4], [2, 4]]
    assert joined.embeds.sum(-1).tolist() == [[[10.0] * 4] * 2, [[5.0, 5.0, 0, 0], [10.0] * 4]]
    alike = join_prompts([pair_prompts(two, None, 1.0)] * 2)
    assert alike.embeds.shape == (1, 2, 4, 5) and alike.mask is None


def test_a_still_without_words_is_refused_by_the_fields_name(engine):
    with pytest.raises(RequestError, match="image_prompts has no words left") as caught:
        engine.generate(ask(mode="image", image_prompts=["https://example.org/"]))
    assert caught.value.field == "image_prompts"
    events = list(engine.stream(ask(mode="image", image_prompts=["a blue cow"])))
    assert isinstance(events[1], Encoded) and len(events[-1].generation.stills) == 1
