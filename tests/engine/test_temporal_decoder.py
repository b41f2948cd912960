"""The optional temporal decoder of a Latte-1 folder: clips go through it, stills do not."""

import numpy as np
import pytest
import torch
from tiny_folder import FRAMES, write_tiny_folder

from latte_core import Decoding, Engine, Finished, GenerationRequest
from latte_core.components.vae import decode_frames, decode_temporal


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = write_tiny_folder(tmp_path_factory.mktemp("temporal") / "x", temporal_decoder=True)
    with Engine.load(folder) as loaded:
        yield loaded


def test_clips_use_the_temporal_decoder_and_stills_the_plain_one(engine):
    request = GenerationRequest(
        "a red cow", seed=1, num_inference_steps=2, mode="joint", num_images=2
    )
    events = list(engine.stream(request))
    made = next(event for event in events if isinstance(event, Finished)).generation
    parts = engine._pipeline.parts
    latents = torch.from_numpy(made.latents[0]).transpose(0, 1)
    assert np.array_equal(made.frames, decode_temporal(parts.temporal_vae, latents))
    assert not np.array_equal(made.frames, decode_frames(parts.vae, latents))
    counts = [event.index for event in events if isinstance(event, Decoding)]
    assert counts == [0, FRAMES, FRAMES + 1, FRAMES + 2]
    still = engine.generate(GenerationRequest("a red cow", "", "image", 2, 1, 2))
    assert all(map(np.array_equal, still.stills, made.stills))
