"""A clip twice as long as trained, by the bundled model: no seam, and one motion through it."""

from pathlib import Path

import numpy as np
import pytest

from latte_core import Engine, GenerationRequest
from latte_core.evaluation.probe import judge, load_probe
from latte_core.evaluation.smoothness import seam

ASSETS = Path(__file__).resolve().parents[2] / "assets"
PROMPT = "a butterfly moves right on a purple background"
FRAMES = 32


@pytest.fixture(scope="module")
def engine():
    with Engine.load(ASSETS / "latte-world", device="cpu") as engine:
        yield engine


def clip(engine, seed, frames=FRAMES):
    request = GenerationRequest(PROMPT, seed=seed, num_inference_steps=8, num_frames=frames)
    return engine.generate(request).frames


def test_long_clip_has_no_seam_and_one_motion(engine):
    frames = clip(engine, 5)
    borders = engine.describe().borders(FRAMES)
    assert borders == (8, 16, 24)
    assert seam(frames, borders) <= 1
    said = judge(load_probe(ASSETS / "world" / "probe.safetensors"), frames[None, ::2])[0]
    assert (said["subject"], said["motion"], said["scene"]) == ("butterfly", "right", "plain")


def test_clips_put_end_to_end_have_a_seam(engine):
    """The control: what windows that share nothing would give."""
    assert seam(np.concatenate([clip(engine, 5, 16), clip(engine, 6, 16)]), [16]) > 1
