"""Which clips count more: contrast as a person would rank it, gains that follow, odds by name."""

import numpy as np
import pytest
import torch
from stand_in import encode

from latte_core.data.emphasis import (
    MOST,
    contrasts,
    contrasts_of,
    draw_favouring,
    drawing_odds,
    gains,
)
from latte_core.data.latents import Renders, encode_clips
from latte_core.data.world import ClipSpec, World
from latte_core.errors import DataError


def contrast_of(**told):
    spec = ClipSpec(**{"subject": "pig", "motion": "left", "size": "", "seed": 4, **told})
    return float(contrasts_of(encode_clips(Renders([spec], 64), encode)))


@pytest.mark.parametrize("motion", ["left", "spin", "grow"])
@pytest.mark.parametrize(
    ("subject", "faint", "plain"), [("pig", "pink", "green"), ("star", "yellow", "blue")]
)
def test_a_subject_of_the_colour_behind_it_is_faint(subject, faint, plain, motion):
    near, far = (
        contrast_of(subject=subject, motion=motion, scene="plain", colour=colour)
        for colour in (faint, plain)
    )
    assert 0 < near < far / 3


def test_the_layers_of_a_scene_are_not_taken_for_the_subject():
    """A cactus in the grass is faint though the sky above is not; so with a camera that pans."""
    for camera in ("", "left"):
        green = contrast_of(subject="cactus", scene="meadow", colour="red", camera=camera)
        desert = contrast_of(subject="cactus", scene="desert", colour="red", camera=camera)
        assert green < 0.6 * desert


def test_each_has_its_own_contrast_and_none_without_a_subject():
    """Two pictures of one frame: a square 0.5 from its ground in one channel of three, and none."""
    pictures = torch.zeros(2, 3, 1, 8, 8)
    pictures[:, :, :, 4:] = 0.25  # the ground's lower half
    pictures[0, 0, 0, 2:6, 2:4] += 0.5
    covers = torch.zeros(2, 1, 8, 8)
    covers[0, :, 2:6, 2:4] = 1
    assert torch.allclose(contrasts(pictures, covers), torch.tensor([0.25 / 3, 0]))


def test_gains_make_up_for_contrast():
    contrast = torch.tensor([0.5, 1.0, 2.0])
    assert torch.equal(gains(contrast, 0.0), torch.ones(3))
    assert torch.allclose(gains(contrast, 1.0), torch.tensor([2.0, 1.0, 0.5]))
    assert torch.allclose(gains(contrast, 0.5).square(), torch.tensor([2.0, 1.0, 0.5]))
    extreme = gains(torch.tensor([0.0, 1.0, 1e9]), 1.0)
    assert extreme[0] == MOST and extreme[2] == pytest.approx(1 / MOST)


def test_odds_follow_the_largest_number_of_a_clip():
    cat = ClipSpec("cat", "spin", "meadow", "red", "", 1)
    pig = ClipSpec("pig", "left", "plain", "red", "", 1)
    both = ClipSpec("pig", "left", "plain", "blue", "", 1, "cat", "spin")
    assert drawing_odds([cat, pig, both], {}) is None
    odds = drawing_odds([cat, pig, both], {"spin": 3, "cat": 2, "red": 0.5})
    assert odds.tolist() == [3, 0.5, 3]  # the meadow's colour is not to be seen
    panned = ClipSpec("pig", "left", "desert", "red", "", 1, camera="left", light="night")
    odds = drawing_odds([cat, both, panned], {"pair": 2, "camera": 1.5, "light": 0.5})
    assert odds.tolist() == [1, 2, 1.5]
    with pytest.raises(DataError, match=r"favoured has dragon, sky, which none of 2 clips shows"):
        drawing_odds([cat, pig], {"sky": 2, "dragon": 2, "cat": 2})


@pytest.mark.parametrize("held_out", [False, True])
def test_favoured_clips_are_drawn_as_often_as_asked(held_out):
    """Of four motions one is drawn three times as often: 3 of 6; another a third as often."""
    world = World(motions=("left", "right", "up", "spin"))

    def share(motion, favoured):
        rng = np.random.default_rng(5)
        specs = [draw_favouring(world, favoured, rng, held_out) for _ in range(1500)]
        assert all(world.is_held_out(spec) == held_out for spec in specs)
        return np.mean([spec.motion == motion for spec in specs])

    plain = share("spin", {})
    assert share("spin", {"spin": 3}) == pytest.approx(3 * plain / (1 + 2 * plain), abs=0.06)
    assert share("spin", {"spin": 1 / 3}) == pytest.approx(plain / (3 - 2 * plain), abs=0.04)


def test_without_favours_the_world_draws_as_it_did():
    world = World()
    ours, theirs = np.random.default_rng(3), np.random.default_rng(3)
    assert all(draw_favouring(world, {}, ours) == world.draw(theirs) for _ in range(20))


def test_clips_of_a_composition_are_drawn_more_often():
    world, rng = World(), np.random.default_rng(6)

    def share(favoured):
        return np.mean([draw_favouring(world, favoured, rng).has("camera") for _ in range(1500)])

    plain = share({})
    assert share({"camera": 3}) == pytest.approx(3 * plain / (1 + 2 * plain), abs=0.06)
