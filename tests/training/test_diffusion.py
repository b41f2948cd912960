"""The configuration's task: every kind of network learns, on clips, stills and both."""

import copy
import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clips import MadeUpClips, stir, tiny_shape, tiny_task

from latte_core.components.vae import VaeConfig, encode_frames, new_vae
from latte_core.training.loop import LoopConfig, Trainer

LOOP = {"device": "cpu", "workers": 0, "log_every": 1, "picture_every": 100, "save_every": 100}

KINDS = [
    *[("class", {"variant": v}) for v in (1, 2, 3, 4)],
    ("class", {"variant": 3, "chain_modulation": "own"}),
    ("class", {"variant": 4, "sum_heads": "full"}),
    ("class", {"injection": "all_tokens"}),
    ("class", {"temporal_positions": "rope"}),
    ("none", {}),
    ("none", {"out_channels": 8}),
    ("text", {}),
    ("text", {"injection": "adaln_zero", "variant": 3}),
    ("text", {"images": "length_one"}),
]


@pytest.mark.parametrize("images", [0, 2])
@pytest.mark.parametrize(("conditioning", "fields"), KINDS)
def test_every_kind_of_network_learns(conditioning, fields, images):
    """A few steps on one batch lower its loss, and every weight that is used gets a gradient."""
    task = tiny_task(tiny_shape(conditioning, **({"out_channels": 4} | fields)), images)
    stir(task.model)
    batch = task.batches[0]
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        loss, figures = task.loss(task.model, batch, torch.Generator().manual_seed(0))
        assert set(figures) == {"mse", "vb"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    unused = [n for n, p in task.model.named_parameters() if p.grad is None]
    assert unused == []


def test_tubes_of_frames_learn():
    task = tiny_task(tiny_shape("none", patch_frames=2))
    stir(task.model)
    task.loss(task.model, task.batches[0], torch.Generator().manual_seed(0))[0].backward()
    assert all(p.grad is not None for p in task.model.parameters())


@pytest.mark.parametrize("images", [0, 2])
def test_images_alone_learn(images):
    """One frame is an image: time attention rests."""
    task = tiny_task(tiny_shape("class"), images)
    task.batches = replace(task.batches, source=MadeUpClips(frames=1))
    stir(task.model)
    task.loss(task.model, task.batches[0], torch.Generator().manual_seed(0))[0].backward()
    resting = {n.split(".")[1] for n, p in task.model.named_parameters() if p.grad is None}
    assert resting == {"1"}  # the time block


def test_images_weigh_as_frames_and_do_not_reach_the_video():
    """Loss over all F+I frames alike (reference 5.3); the clip's part is the clip's alone."""
    shape = tiny_shape("class", out_channels=4)
    joint, alone = tiny_task(shape, images=2), tiny_task(shape)
    stir(joint.model)
    alone.model.load_state_dict(joint.model.state_dict())
    x0 = joint.batches[3]["latents"]
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    steps = torch.tensor([400, 20])
    labels = joint.batches[3]["labels"]
    noisy = joint.objective.add_noise(x0, noise, steps)
    with torch.no_grad():
        together = joint.model(noisy, steps, class_labels=labels, num_images=2)
        video = alone.model(noisy[:, :, :4], steps, class_labels=labels[:, 0])
    assert torch.equal(together[:, :, :4], video)
    mean = joint.objective(together, x0, noise, steps).mse
    parts = (together - noise).square().mean(dim=(1, 3, 4))  # (B, F+I)
    torch.testing.assert_close(mean, (parts[:, :4].sum(1) + parts[:, 4:].sum(1)) / 6)


def test_gradient_checkpointing_changes_nothing_in_the_joint_text_model():
    """The original's joint text branch lost its time positions without it (reference 8.1, 13)."""
    task = tiny_task(tiny_shape("text", depth=4), images=2)
    stir(task.model)
    gradients = []
    for checkpointing in (False, True):
        task.model.gradient_checkpointing = checkpointing
        task.model.zero_grad()
        task.loss(task.model, task.batches[0], torch.Generator().manual_seed(0))[0].backward()
        gradients.append([p.grad.clone() for p in task.model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-5, atol=1e-7)
    task.model.positions.time.zero_()  # positive control: the table matters
    task.model.zero_grad()
    task.loss(task.model, task.batches[0], torch.Generator().manual_seed(0))[0].backward()
    assert not torch.allclose(gradients[0][0], next(task.model.parameters()).grad, atol=1e-7)


@pytest.mark.parametrize("images", [0, 1])
def test_accumulated_batches_equal_the_large_batch(images, tmp_path):
    """Reference 8.1, defect 3: the first update too is made of exactly `accumulate` batches."""

    def figures(batch, accumulate):
        task = tiny_task(tiny_shape(out_channels=4), images, batch)
        stir(task.model)
        task.loss = _fixed_noise(task)
        loop = LoopConfig(
            steps=3, learning_rate=1e-2, warmup_steps=1, accumulate=accumulate, **LOOP
        )
        folder = tmp_path / f"{batch}-{accumulate}"
        Trainer(task, loop, folder).run()
        with (folder / "log.csv").open() as file:
            rows = list(csv.DictReader(file))
        return [float(row[name]) for row in rows for name in ("loss", "grad_norm")]

    large = figures(4, 1)
    assert figures(2, 2) == pytest.approx(large, rel=1e-3)
    assert figures(2, 1) != pytest.approx(large, rel=1e-2)  # positive control


def _fixed_noise(task):
    """A loss whose noise belongs to the sample, so that batches can be cut otherwise."""

    def loss(model, batch, generator):
        x0 = batch["latents"]
        noise = torch.sin(37 * x0 + torch.arange(x0[0].numel()).reshape(x0[0].shape))
        steps = (100 * x0[:, 0, 0, 0, 0]).long() + 50
        labels = x0[:, 0, [0, *range(4, x0.shape[2])], 0, 0].floor().long() % 3  # none dropped
        noisy = task.objective.add_noise(x0, noise, steps)
        output = model(noisy, steps, class_labels=labels, num_images=task.batches.images)
        return task.objective(output, x0, noise, steps).total, {}

    return loss


def test_pixels_are_encoded_as_published_or_by_the_mean():
    task = tiny_task(tiny_shape("none"))
    vae = new_vae(VaeConfig((8, 8), 1, sample_size=8, norm_num_groups=4)).eval()
    task.frozen.vae = vae
    pixels = torch.rand(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    task.sample_posterior = False
    mean = task._latents({"pixels": pixels}, torch.Generator().manual_seed(0))
    assert mean.shape == (2, 4, 4, 4, 4)
    expected = encode_frames(vae, pixels[1, 2][None])[0]
    torch.testing.assert_close(mean[1, :, 2], expected, rtol=1e-4, atol=1e-5)
    task.sample_posterior = True
    draws = [task._latents({"pixels": pixels}, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.allclose(draws[0], mean)
    assert all(p.grad is None for p in vae.parameters())


@pytest.mark.parametrize("conditioning", ["class", "none", "text"])
@pytest.mark.parametrize("images", [0, 1])
def test_sheet_shows_clips(conditioning, images):
    task = tiny_task(tiny_shape(conditioning), images)
    stir(task.model)
    sheet = np.asarray(task.picture(task.model.eval()))
    assert sheet.std() > 5
    assert np.array_equal(sheet, np.asarray(task.picture(task.model)))
    other = copy.deepcopy(task)
    stir(other.model, seed=1)
    assert not np.array_equal(sheet, np.asarray(other.picture(other.model)))


def test_guidance_of_one_leaves_the_told_half_alone():
    task = tiny_task(tiny_shape("class"))
    stir(task.model)
    task.model.eval()
    clips = list(task.draw(task.model))
    assert [clip.shape for clip in clips] == [(4, 4, 4, 3)] * 3
    assert not np.array_equal(clips[0], clips[1])  # classes differ
