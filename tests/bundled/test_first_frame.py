"""A clip from a start picture, by the bundled model: it begins there and goes on without a jump."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latte_core import Engine, GenerationRequest, load_picture
from latte_core.components.vae import decode_frames, encode_frames
from latte_core.data.pixels import to_pixels
from latte_core.data.render import render_clip
from latte_core.data.world import ClipSpec
from latte_core.evaluation.probe import judge, load_probe
from latte_core.evaluation.shapes import psnr
from latte_core.evaluation.smoothness import seam

ASSETS = Path(__file__).resolve().parents[2] / "assets"
PROMPT = "a butterfly moves right on a purple background"


@pytest.fixture(scope="module")
def engine():
    with Engine.load(ASSETS / "latte-world", device="cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def rendered():
    return render_clip(ClipSpec("butterfly", "right", "plain", "purple", "", 11), 16, 128)


@pytest.fixture(scope="module")
def picture(rendered):
    return rendered[0]


def test_clip_begins_with_the_picture_and_does_what_the_prompt_says(engine, picture):
    request = GenerationRequest(
        PROMPT,
        seed=5,
        num_inference_steps=10,
        first_frame=load_picture(Image.fromarray(picture), 128, 128),
    )
    clip = engine.generate(request).frames
    vae = engine._pipeline.parts.vae
    again = decode_frames(vae, encode_frames(vae, to_pixels(picture[None])))[0]
    assert psnr(clip[0], picture) >= psnr(again, picture) - 0.01
    assert seam(clip, [1]) <= 1
    said = judge(load_probe(ASSETS / "world" / "probe.safetensors"), clip[None])[0]
    assert (said["subject"], said["motion"], said["scene"]) == ("butterfly", "right", "plain")


def test_picture_put_before_a_clip_of_its_own_jumps(engine, rendered):
    """The control: a picture from a clip's end, and a clip that knows nothing of it.

    That of a clip's start would not do: a butterfly that moves right begins on the left anyway.
    """
    clip = engine.generate(GenerationRequest(PROMPT, seed=5, num_inference_steps=10)).frames
    for late in (8, 15):
        assert seam(np.concatenate([rendered[late][None], clip[1:]]), [1]) > 1


def test_turbo_takes_a_start_picture_and_a_longer_clip_together(engine, picture):
    asked = {"turbo": True, "num_frames": 32, "height": 128, "width": 128, "num_inference_steps": 4}
    start = load_picture(Image.fromarray(picture), 128, 128)
    led, free = (
        engine.generate(GenerationRequest(PROMPT, seed=5, first_frame=first, **asked)).frames
        for first in (start, None)
    )
    assert led.shape == free.shape == (32, 128, 128, 3)
    assert psnr(led[0], picture) > psnr(free[0], picture) + 3
    assert seam(led, engine.describe().borders(32)) <= 1
