"""Batches of the configuration's task: layout, labels, captions, epochs."""

import numpy as np
import pytest
import torch
from tiny_clips import WIDTH, MadeUpClips

from latte_core.data.world import World
from latte_core.errors import DataError
from latte_core.training.samples import CaptionReader, SampleBatches, WorldClips


def numbers(batch):
    """Which clip each frame is of, (B, F+I)."""
    return batch["latents"][:, 0, :, 0, 0].floor().long()


def test_stills_of_other_clips_stand_behind_the_clip():
    batch = SampleBatches(MadeUpClips(), 3, images=2, num_classes=3, drop=0.0)[4]
    assert batch["latents"].shape == (3, 4, 6, 4, 4)
    assert batch["latents"].dtype == torch.float32
    for row, labels in zip(numbers(batch), batch["labels"], strict=True):
        assert len(row[:4].unique()) == 1
        assert not (row[4:] == row[0]).any()
        assert torch.equal(labels, torch.stack([row[0], row[4], row[5]]) % 3)


def test_clip_alone_has_no_stills_behind_it():
    batch = SampleBatches(MadeUpClips(), 3, num_classes=3)[0]
    assert batch["latents"].shape == (3, 4, 4, 4, 4)
    assert batch["labels"].shape == (3, 1)


def test_every_clip_comes_once_before_any_comes_again():
    batches = SampleBatches(MadeUpClips(6), 2)
    epochs = [[int(n) for k in range(3) for n in numbers(batches[3 * e + k])[:, 0]] for e in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(6))
    assert epochs[0] != epochs[1]


def test_batch_is_the_same_whenever_it_is_asked_for():
    one, two = (SampleBatches(MadeUpClips(), 2, 1, 3, seed=9) for _ in range(2))
    two[0]
    assert all(torch.equal(one[7][name], two[7][name]) for name in ("latents", "labels"))


def test_images_of_a_sample_lose_their_labels_together_and_apart_from_the_clip():
    labels = torch.cat(
        [SampleBatches(MadeUpClips(), 40, 3, 3, drop=0.3)[n]["labels"] for n in range(20)]
    )
    dropped = labels == 3
    assert torch.equal(dropped[:, 1:].any(1), dropped[:, 1:].all(1))
    shares = [float(d.float().mean()) for d in (dropped[:, 0], dropped[:, 1])]
    assert shares == pytest.approx([0.3, 0.3], abs=0.06)  # 800 draws
    both = float((dropped[:, 0] & dropped[:, 1]).float().mean())
    assert both == pytest.approx(0.09, abs=0.04)


def test_clip_without_a_label_or_with_a_foreign_one_is_refused():
    with pytest.raises(DataError, match=r"clip-\d has the label None"):
        SampleBatches(MadeUpClips(labelled=False), 1, num_classes=3)[0]
    with pytest.raises(DataError, match="the model has 1 classes"):
        SampleBatches(MadeUpClips(), 6, num_classes=1)[0]


def test_cached_captions_belong_to_their_clips():
    reader = CaptionReader(5, None, MadeUpClips().null_prompt)
    batch = SampleBatches(MadeUpClips(), 3, images=1, captions=reader, drop=0.0)[1]
    assert batch["embeds"].shape == (3, 2, 5, WIDTH)
    for row, embeds, reads in zip(numbers(batch), batch["embeds"], batch["reads"], strict=True):
        for clip, e, r in zip(row[[0, 4]].tolist(), embeds, reads, strict=True):
            kept = min(clip + 1, 5)
            assert r.tolist() == [1] * kept + [0] * (5 - kept)
            assert (e[:kept] == clip).all()
            assert (e[kept:] == 0).all()


def test_dropped_cached_caption_is_the_empty_prompt_at_its_length():
    reader = CaptionReader(8, None, MadeUpClips().null_prompt)
    batch = SampleBatches(MadeUpClips(), 6, captions=reader, drop=1.0 - 1e-9)[0]
    lengths = [int(n) + 1 for n in numbers(batch)[:, 0]]
    assert batch["reads"][:, 0].sum(-1).tolist() == lengths
    for embeds, length in zip(batch["embeds"][:, 0], lengths, strict=True):
        assert (embeds[:length] == -1).all()
    without = CaptionReader(8, None, None)
    with pytest.raises(DataError, match="no empty prompt"):
        SampleBatches(MadeUpClips(), 6, captions=without, drop=1.0)[0]
    with pytest.raises(DataError, match="no cached caption"):
        SampleBatches(MadeUpClips(told=False), 6, captions=without)[0]


def test_world_gives_frames_captions_and_subjects():
    world = World(("cat", "rocket"), ("left", "right"), ("plain", "night"), ("red", "blue"))
    clips = WorldClips(world, 5, 4, 16, seed=1)
    assert (len(clips), clips.classes) == (5, ("cat", "rocket"))
    clip = clips.read_clip(2, np.random.default_rng(0))
    assert clip.frames.shape == (4, 16, 16, 3)
    assert clip.frames.dtype == np.uint8
    still = clips.read_image(2, np.random.default_rng(0))
    assert (still.frames == clip.frames).all(axis=(1, 2, 3)).sum() == 1
    assert still.label == clip.label
    batch = SampleBatches(clips, 2, images=1)[0]
    assert batch["pixels"].shape == (2, 5, 3, 16, 16)
    assert -1 <= float(batch["pixels"].min()) < float(batch["pixels"].max()) <= 1
