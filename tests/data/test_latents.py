"""Encoded clips: the same clip for the same number, whole after a round trip to disk."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stand_in import encode

from latte_core.data.latents import Renders, draw_specs, encode_clips, load_clips, save_clips
from latte_core.data.render import render_clip, render_covered
from latte_core.data.world import ClipSpec, World
from latte_core.errors import DataError

WORLD = World(("cat", "car"), ("left", "right"), ("plain",), ("red", "blue"))


def renders(count, seed=1):
    return Renders(draw_specs(WORLD, count, seed), 16)


def test_clips_are_those_of_their_specs_whatever_the_count():
    three = encode_clips(renders(3), encode)
    two = encode_clips(renders(2), encode)
    assert three.latents.shape == (3, 4, 16, 2, 2)
    assert torch.equal(three.latents[:2], two.latents)
    assert three.specs[:2] == two.specs
    again = encode(render_clip(three.specs[2], 16, 16)).half().transpose(0, 1)
    assert torch.equal(three.latents[2], again)
    assert encode_clips(renders(2, seed=2), encode).specs != two.specs
    assert not any(WORLD.is_held_out(spec) for spec in three.specs)


def test_processes_draw_the_same_clips_in_order():
    alone, together = (encode_clips(renders(5), encode, workers) for workers in (0, 2))
    assert torch.equal(alone.latents, together.latents)
    assert not torch.equal(alone.latents[0], alone.latents[1])


def test_clips_survive_the_disk(tmp_path):
    clips = encode_clips(renders(2), encode)
    save_clips(clips, tmp_path / "clips.safetensors")
    loaded = load_clips(tmp_path / "clips.safetensors")
    assert loaded.specs == clips.specs
    assert np.array_equal(loaded.latents, clips.latents)
    assert np.array_equal(loaded.covers, clips.covers)


def test_covers_say_where_the_subject_is(tmp_path):
    """A latent's cover is the most of its pixels'; a subject that moves left takes it along."""
    spec = ClipSpec("whale", "left", "plain", "red", "", 3)  # casts no shadow
    covers = encode_clips(Renders([spec], 32), encode).covers[0].numpy()
    frames, cover = render_covered(spec, 16, 32)
    assert covers.shape == (16, 4, 4) and covers.dtype == np.uint8
    assert covers.max() > 250 and (covers == 0).any()
    assert covers[5, 2, 1] == cover[5, 16:24, 8:16].max()
    across = np.arange(32)
    centre = (cover * across).sum((1, 2)) / cover.sum((1, 2))
    assert centre[0] > centre[15] + 4
    bare = np.abs(frames.astype(int) - frames[:, :, :1]).sum(-1) > 60
    assert (cover[bare] > 0).mean() > 0.9  # what is not ground is the subject


def test_clips_without_covers_are_refused(tmp_path):
    path = tmp_path / "clips.safetensors"
    save_file({"latents": torch.zeros(0, 4, 16, 2, 2)}, path, metadata={"specs": "[]"})
    with pytest.raises(DataError, match=r"do not say where subjects are: encode them anew"):
        load_clips(path)


def test_missing_clips_are_said(tmp_path):
    with pytest.raises(DataError, match=r"no encoded clips at .*train the autoencoder first"):
        load_clips(tmp_path / "clips.safetensors")
